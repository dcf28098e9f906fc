//! Finds one batch by what a person types: its id or the beginning of it.

use super::PlaceArgs;
use crate::cli::failure::Failure;
use crate::flows::batches::BatchKey;
use crate::store::{BatchFilter, BatchRow, Store, StoreError};

/// How many candidates are looked at; more are named as "and more".
const CANDIDATES: i64 = 5;

/// What a lookup found.
#[derive(Debug)]
pub(super) enum Found {
    /// One batch.
    One(Box<BatchRow>),
    /// None of this id.
    None,
    /// Several; the newest ones.
    Several(Vec<BatchRow>),
}

/// Looks for the batch of this id, or the only one whose id begins so.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn find(store: &Store, place: &PlaceArgs, id: &str) -> Result<Found, StoreError> {
    if let Some(service_id) = &place.service {
        let key = BatchKey {
            ledger: place.ledger.clone(),
            service_id: service_id.clone(),
            batch_id: id.to_owned(),
        };
        if let Some(row) = store.find_batch(&key).await? {
            return Ok(Found::One(Box::new(row)));
        }
    }
    let filter = BatchFilter {
        ledger: Some(place.ledger.clone()),
        service_id: place.service.clone(),
        batch_id_prefix: Some(id.to_owned()),
        limit: CANDIDATES,
        ..BatchFilter::default()
    };
    let mut rows = store.list_batches(&filter).await?.rows;
    if rows.iter().any(|row| row.batch_id == id) {
        rows.retain(|row| row.batch_id == id);
    }
    Ok(match (rows.pop(), rows.is_empty()) {
        (None, _) => Found::None,
        (Some(row), true) => Found::One(Box::new(row)),
        (Some(row), false) => {
            rows.push(row);
            Found::Several(rows)
        }
    })
}

impl Found {
    /// The one batch, or words on why there is not one.
    pub(super) fn one(self, place: &PlaceArgs, id: &str) -> Result<BatchRow, String> {
        match self {
            Self::One(row) => Ok(*row),
            Self::None => {
                let service = match &place.service {
                    Some(service) => format!(" and service \"{service}\""),
                    None => String::new(),
                };
                Err(format!(
                    "no batch \"{id}\" of ledger \"{}\"{service} is tracked",
                    place.ledger
                ))
            }
            Self::Several(rows) => {
                let named: Vec<String> = rows
                    .iter()
                    .map(|row| format!("  --service \"{}\" {}", row.service_id, row.batch_id))
                    .collect();
                Err(format!(
                    "\"{id}\" is not one batch; name the service or more of the id:\n{}",
                    named.join("\n")
                ))
            }
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}
