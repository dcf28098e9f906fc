//! To the StateSaver.

/// Save every state that has news; answered when it is done, with what could
/// not be saved.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "Result<(), String>")]
pub struct SaveStates;
