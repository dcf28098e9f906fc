//! What a ledger's stream means for the batches.

/// Hears what a ledger's stream says of batches. None of it waits: what is to
/// be done is noted and done elsewhere.
pub trait LedgerNews: Send + Sync + 'static {
    /// Something was decided on a service: its outstanding batches are to be
    /// polled soon. Told for each event; who hears it bounds how often it polls.
    fn poll_service_now(&self, ledger: &str, service_id: &str);

    /// These transactions are committed. Also told of old ones, and again.
    fn transactions_committed(&self, ledger: &str, service_id: &str, tx_ids: Vec<String>);

    /// Something may have been missed (the stream begins, or begins again):
    /// everything outstanding on the service is to be polled.
    fn gap(&self, ledger: &str, service_id: &str);
}
