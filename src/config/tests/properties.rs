//! Nothing that is written panics.

use super::*;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9]{1,25} ?(ns|ms|s|m|h|d|y|MiB|EiB|k)?",
        "[ -~]{0,30}",
        "[a-z:/@.?#\\[\\]0-9]{0,20}",
        Just("sqlite://".to_owned()),
    ]
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        drop(try_parse(&text, &[]));
    }

    #[test]
    fn no_toml_panics(
        section in "(\\[|\\[\\[)?(batches|ledgers|http|log|database)(\\]|\\]\\])?",
        keys in proptest::collection::vec(("(url|wait|name|kind|repoll|repoll.min|filter|listen|max_body_bytes|[a-zé\"'.]{1,6})", value(), any::<bool>()), 0..6),
    ) {
        let mut text = format!("{section}\n");
        for (key, value, quoted) in keys {
            let value = if quoted { toml_edit::Value::from(value).to_string() } else { value };
            text.push_str(&format!("{key} = {value}\n"));
        }
        drop(try_parse(&text, &[]));
    }

    #[test]
    fn no_environment_panics(
        key in "(BATCHES__(POLL_INTERVAL|COMMIT_ROWS|REPOLL__MIN)|LOG__FILTER|HTTP__(LISTEN|MAX_BODY_BYTES|CONTROL_TOKEN)|DATABASE__(URL|SCHEMA)|LEDGERS__(0|TRACE)__(URL|WAIT|NAME)|[A-Z_é]{0,12})",
        value in value(),
    ) {
        let name = format!("HIGHWATER_{key}");
        if let Ok(loaded) = try_parse(LEDGER, &[(&name, &value)]) {
            let dumped = dump(&loaded);
            prop_assert!(toml_edit::Document::parse(dumped.as_str()).is_ok(), "{}", dumped);
        }
    }

    #[test]
    fn no_job_panics_and_every_dump_is_read_again(
        key in "(retry|name|batches|handler|handler.(http|command|code|civicrm)|handler.http.(path|body|headers|user|result)|handler.http.expect.(status|json|headers)|handler.command.args)",
        value in "(\"[ -~]{0,20}\"|'[ -&(-~]{0,12}'|[0-9.]{1,4}|\\[('a'|'\\{site_id\\}'|1)?\\]|\\{ ?(\"/a\"|b|http|args|timeout) = ('a'|1|\\{\\}|nan|\\['x'\\]) ?\\}|\\{\\})",
    ) {
        let text = format!("{JOB}{key} = {value}\n");
        match try_parse(&text, &[]) {
            Ok(first) => {
                let dumped = dump(&first);
                let second = try_parse(&dumped, &[]);
                prop_assert!(second.is_ok(), "{}\n{}", dumped, second.unwrap_err());
                prop_assert_eq!(first.settings.jobs, second.unwrap().settings.jobs);
            }
            Err(errors) => prop_assert!(!errors.errors().is_empty()),
        }
    }
}
