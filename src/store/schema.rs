//! The tables, as diesel sees them; the same on both databases. `events` and
//! `subscriptions` have more columns than diesel takes at once; their queries
//! name what they read.

diesel::table! {
    /// Public contract; see `docs/batches.md`.
    batches (ledger, service_id, batch_id) {
        ledger -> Text,
        service_id -> Text,
        batch_id -> Text,
        seq -> BigInt,
        status -> Text,
        invalid_transactions -> Text,
        submitted_at -> Timestamp,
        last_polled_at -> Nullable<Timestamp>,
        polls -> Integer,
        unknowns -> Integer,
        next_poll_at -> Nullable<Timestamp>,
        settled_at -> Nullable<Timestamp>,
        last_error -> Nullable<Text>,
        poll_log -> Text,
    }
}

diesel::table! {
    /// Transactions of a batch, by which pushed events settle it.
    batch_transactions (ledger, service_id, batch_id, transaction_id) {
        ledger -> Text,
        service_id -> Text,
        batch_id -> Text,
        transaction_id -> Text,
    }
}

diesel::table! {
    /// Who works on what.
    leases (name) {
        name -> Text,
        holder -> Text,
        epoch -> BigInt,
        expires_at -> Timestamp,
        acquired_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    /// Soft state of services.
    service_states (service) {
        service -> Text,
        version -> Integer,
        value -> Text,
        saved_at -> Timestamp,
    }
}

diesel::table! {
    /// What operators changed, or tried to.
    audit (id) {
        id -> BigInt,
        at -> Timestamp,
        who -> Text,
        action -> Text,
        target -> Text,
        details -> Nullable<Text>,
        outcome -> Text,
        problem -> Nullable<Text>,
    }
}

diesel::table! {
    /// Saved states that could not be read.
    service_states_aside (id) {
        id -> BigInt,
        service -> Text,
        version -> Integer,
        value -> Text,
        saved_at -> Timestamp,
        set_aside_at -> Timestamp,
        problem -> Text,
    }
}

diesel::table! {
    /// Public contract; see `docs/sites.md`.
    sites (site_id) {
        seq -> BigInt,
        site_id -> Text,
        app_id -> Text,
        url -> Text,
        batch_code -> Integer,
        enabled -> Bool,
        labels -> Text,
        created_at -> Timestamp,
    }
}

diesel::table! {
    /// How a site stands with a job. Public contract; see `docs/sites.md`.
    poll_status (seq) {
        seq -> BigInt,
        site_id -> Text,
        job_name -> Text,
        level -> Integer,
        count -> Integer,
        last_run_at -> Nullable<Timestamp>,
        next_due_at -> Nullable<Timestamp>,
        last_outcome -> Nullable<Text>,
        last_error -> Nullable<Text>,
        last_duration_ms -> Nullable<BigInt>,
        given_up_at -> Nullable<Timestamp>,
        app_id -> Text,
        batch_code -> Integer,
        enabled -> Bool,
        poll_log -> Text,
    }
}

diesel::table! {
    /// What handlers learned.
    poll_results (status_seq, run_at) {
        status_seq -> BigInt,
        run_at -> Timestamp,
        document -> Text,
    }
}

diesel::table! {
    /// Outcomes of a job over time.
    job_outcomes (app_id, job_name, bucket_at) {
        app_id -> Text,
        job_name -> Text,
        bucket_at -> Timestamp,
        successes -> BigInt,
        failures -> BigInt,
    }
}

diesel::table! {
    /// Hosts that asked to be left alone.
    host_pauses (host) {
        host -> Text,
        until_at -> Timestamp,
    }
}

diesel::allow_tables_to_appear_in_same_query!(sites, poll_status, poll_results);
