//! What may enter: checked wherever batches come in, except by SQL.

use crate::ledgers::LedgerKind;
use crate::store::NewBatch;

/// Most transactions of one batch.
const MOST_TRANSACTIONS: usize = 1000;
/// Longest transaction id; header signatures have 128 characters.
const LONGEST_TRANSACTION_ID: usize = 256;

/// Checks a batch for a ledger of this kind: what a ledger can never know
/// would be asked for until it is given up. Answers every mistake, as the name
/// of the field (`service_id`, `batch_id`, `transaction_ids`,
/// `transaction_ids[3]`) and what is wrong with it.
pub fn check_new_batch(batch: &NewBatch, kind: LedgerKind) -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    let mut wrong = |field: String, message: String| mistakes.push((field, message));
    if let Err(problem) = kind.check_service_id(&batch.key.service_id) {
        wrong("service_id".to_owned(), problem.to_string());
    }
    if let Err(problem) = kind.check_batch_id(&batch.key.batch_id) {
        wrong("batch_id".to_owned(), problem.to_string());
    }
    let ids = &batch.transaction_ids;
    if ids.len() > MOST_TRANSACTIONS {
        let message = format!("{} ids; at most {MOST_TRANSACTIONS} a batch", ids.len());
        wrong("transaction_ids".to_owned(), message);
        return mistakes;
    }
    for (at, id) in ids.iter().enumerate() {
        let printable = id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || !(1..=LONGEST_TRANSACTION_ID).contains(&id.len()) {
            let shown: String = id.chars().take(40).collect();
            let message = format!(
                "\"{}\" is not of 1 to {LONGEST_TRANSACTION_ID} printable ASCII characters",
                shown.escape_debug()
            );
            wrong(format!("transaction_ids[{at}]"), message);
        }
    }
    mistakes
}
