//! The triggers that note which rows of our own tables changed. They are there
//! only while the table is published: they cost every write a row.

use crate::config::DatasetSource;

/// A table and the columns that its entry's key is made of.
pub(super) type Keyed = (&'static str, &'static [&'static str]);

/// What stands for a key where all keys are to be noted anew: a table was emptied
/// by `TRUNCATE`, which tells of no rows.
pub(super) const ANEW: &str = "null";

/// The table that has a row for each entry, and another one that counts as its.
pub(super) const fn tables(source: DatasetSource) -> (Keyed, Option<Keyed>) {
    match source {
        DatasetSource::Batches => (("batches", &["ledger", "service_id", "batch_id"]), None),
        DatasetSource::Sites => (
            ("sites", &["app_id", "site_id"]),
            Some(("poll_status", &["app_id", "site_id"])),
        ),
        DatasetSource::Events => (
            ("events", &["subscription", "block", "tx_id", "event_id"]),
            None,
        ),
    }
}

/// Columns of the first table that are unique together and have an index: in
/// their order it is gone through.
pub(super) const fn in_order(source: DatasetSource) -> &'static [&'static str] {
    match source {
        DatasetSource::Sites => &["site_id"],
        DatasetSource::Batches | DatasetSource::Events => tables(source).0.1,
    }
}

/// The key of a row, as SQL: a JSON list of its columns.
pub(super) fn key_of(row: &str, columns: &[&str], sqlite: bool) -> String {
    let columns: Vec<String> = columns
        .iter()
        .map(|column| format!("{row}.{column}"))
        .collect();
    let columns = columns.join(", ");
    if sqlite {
        format!("json_array({columns})")
    } else {
        format!("json_build_array({columns})::text")
    }
}

fn all(source: DatasetSource) -> impl Iterator<Item = Keyed> {
    let (table, other) = tables(source);
    std::iter::once(table).chain(other)
}

/// A query that counts, as `count`, which of the triggers are there and at work.
pub(super) fn counting(source: DatasetSource, sqlite: bool) -> String {
    let one = |(table, _): Keyed| {
        let name = format!("dataset_source_{table}");
        if sqlite {
            format!(
                "SELECT count(*) AS n FROM sqlite_master WHERE type = 'trigger' \
                 AND tbl_name = '{table}' \
                 AND name IN ('{name}_inserted', '{name}_updated', '{name}_deleted')"
            )
        } else {
            format!(
                "SELECT count(*) AS n FROM pg_trigger WHERE tgrelid = '{table}'::regclass \
                 AND tgenabled <> 'D' AND tgname IN ('{name}', '{name}_truncated')"
            )
        }
    };
    let each: Vec<String> = all(source).map(one).collect();
    format!(
        "SELECT CAST(sum(n) AS BIGINT) AS count FROM ({}) AS t",
        each.join(" UNION ALL ")
    )
}

/// How many that are when none is missing.
pub(super) fn expected(source: DatasetSource, sqlite: bool) -> usize {
    all(source).count() * if sqlite { 3 } else { 2 }
}

/// What creates them.
pub(super) fn triggers(source: DatasetSource, sqlite: bool) -> String {
    let word = source.as_str();
    let create = |(table, columns): Keyed| {
        let note = |row: &str| {
            format!(
                "INSERT INTO dataset_source_changes (source, key) SELECT '{word}', {}",
                key_of(row, columns, sqlite)
            )
        };
        let differs = |sign: &str| {
            let differs = columns
                .iter()
                .map(|column| format!("NEW.{column} {sign} OLD.{column}"));
            differs.collect::<Vec<_>>().join(" OR ")
        };
        let name = format!("dataset_source_{table}");
        let (new, old) = (note("NEW"), note("OLD"));
        if sqlite {
            let other = differs("IS NOT");
            format!(
                "CREATE TRIGGER {name}_inserted AFTER INSERT ON {table} BEGIN {new}; END; \
                 CREATE TRIGGER {name}_updated AFTER UPDATE ON {table} BEGIN {new}; \
                 {old} WHERE {other}; END; \
                 CREATE TRIGGER {name}_deleted AFTER DELETE ON {table} BEGIN {old}; END;"
            )
        } else {
            // Applications write these tables too, with rights of their own and
            // a search path of their own. Whoever empties a table must not wait
            // for who publishes it, who waits for the table: a row is inserted.
            let other = differs("IS DISTINCT FROM");
            format!(
                "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql \
                 SECURITY DEFINER SET search_path FROM CURRENT AS $$ BEGIN \
                 IF TG_OP = 'TRUNCATE' THEN INSERT INTO dataset_source_changes (source, key) \
                 VALUES ('{word}', '{ANEW}'); RETURN NULL; END IF; \
                 IF TG_OP = 'DELETE' THEN {old}; RETURN NULL; END IF; {new}; \
                 IF TG_OP = 'UPDATE' AND ({other}) THEN {old}; END IF; RETURN NULL; END $$; \
                 CREATE TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {table} \
                 FOR EACH ROW EXECUTE FUNCTION {name}(); \
                 CREATE TRIGGER {name}_truncated AFTER TRUNCATE ON {table} \
                 FOR EACH STATEMENT EXECUTE FUNCTION {name}();"
            )
        }
    };
    all(source).map(create).collect()
}

/// What removes them.
pub(super) fn drop_triggers(source: DatasetSource, sqlite: bool) -> String {
    let remove = |(table, _): Keyed| {
        let name = format!("dataset_source_{table}");
        if sqlite {
            format!(
                "DROP TRIGGER IF EXISTS {name}_inserted; DROP TRIGGER IF EXISTS {name}_updated; \
                 DROP TRIGGER IF EXISTS {name}_deleted;"
            )
        } else {
            format!(
                "DROP TRIGGER IF EXISTS {name}_truncated ON {table}; \
                 DROP TRIGGER IF EXISTS {name} ON {table}; DROP FUNCTION IF EXISTS {name}();"
            )
        }
    };
    all(source).map(remove).collect()
}
