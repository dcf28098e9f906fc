//! The tables, as diesel sees them; the same on both databases.

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
