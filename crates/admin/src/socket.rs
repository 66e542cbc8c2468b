//! The unix socket that operators reach relayd by.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;

use crate::api;
use crate::status::Samples;
use crate::world::AdminWorld;

/// Owner and group may talk to relayd, nobody else.
const SOCKET_MODE: u32 = 0o660;
/// How often the counters are looked at for the rates of `status`.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Binds the socket, makes its directory where that is missing, and takes away a socket that a dead
/// relayd has left behind. A live one's socket is left alone: `AddrInUse`.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!("{}: another relayd listens here", path.display()),
                ));
            }
            std::fs::remove_file(path)?;
        }
        // Not a socket: bind fails by itself and the file stays.
        Ok(_) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Serves the API until `shutdown` resolves; requests under way are finished.
pub async fn serve(
    listener: UnixListener,
    world: Arc<AdminWorld>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let samples = Arc::new(Samples::default());
    let sampler = tokio::spawn({
        let (world, samples) = (Arc::clone(&world), Arc::clone(&samples));
        async move {
            let mut tick = tokio::time::interval(SAMPLE_EVERY);
            loop {
                tick.tick().await;
                samples.take(&world);
            }
        }
    });
    let served = axum::serve(listener, api::router(world, samples))
        .with_graceful_shutdown(shutdown)
        .await;
    sampler.abort();
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run").join("relayd.sock");
        let live = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        drop(live);
        assert!(bind(&path).is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, "mine").unwrap();
        assert!(bind(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
