//! To the StateSaver.

/// Save every state that has news; answered when it is done.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct SaveStates;
