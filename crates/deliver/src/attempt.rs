//! One session: dial, TLS, EHLO, AUTH, then dispatch after dispatch.

use std::sync::Arc;

use relay_schedule::{Dispatch, Report};

use crate::link::Link;
use crate::world::World;

/// Runs one session from its first `Ready` to its QUIT. The caller's guard sends `Closed`.
pub async fn session(world: Arc<World>, link: Link) {
    let _ = (world, link);
    todo!()
}

/// Settles a job whose deadline has passed without a last try: its recipients expire, with the
/// last reply they had.
pub async fn expire(world: Arc<World>, dispatch: Dispatch) -> Report {
    let _ = (world, dispatch);
    todo!()
}
