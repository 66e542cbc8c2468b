//! How a body comes into a file of its own, piece by piece: the blocking work of [`crate::big`], off the
//! async threads, and refused as soon as there is no room.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use relay_smtp::QueueId;
use tokio::task::spawn_blocking;

use crate::big::{BigFile, BigWriter, InFile};
use crate::body::{Body, Staging};
use crate::shared::Shared;
use crate::store::{Later, StoreError};

/// A file that is being written.
pub(crate) struct DiskStaging {
    shared: Arc<Shared>,
    /// None: a write failed, or was given up half-way; the file has gone.
    writer: Option<BigWriter>,
}

impl DiskStaging {
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        id: QueueId,
    ) -> Result<DiskStaging, StoreError> {
        let files = shared.big.clone();
        let create = move || match files.create(id) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            created => created.map(Some),
        };
        let writer = blocking(create).await?.ok_or(StoreError::Taken(id))?;
        Ok(DiskStaging {
            shared: shared.clone(),
            writer: Some(writer),
        })
    }

    async fn add(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let mut writer = self.writer.take().ok_or_else(broken_off)?;
        // Space may have run short since it began: then it goes back at once, not at the end.
        self.shared.may_take()?;
        let written = blocking(move || writer.write(&bytes).map(|()| writer)).await?;
        self.writer = Some(written);
        Ok(())
    }

    async fn end(mut self) -> Result<Body, StoreError> {
        let writer = self.writer.take().ok_or_else(broken_off)?;
        blocking(move || writer.finish()).await.map(Body::in_file)
    }
}

impl Staging for DiskStaging {
    fn write(&mut self, bytes: Bytes) -> Later<'_, Result<(), StoreError>> {
        Box::pin(self.add(bytes))
    }

    fn finish(self: Box<Self>) -> Later<'static, Result<Body, StoreError>> {
        Box::pin(self.end())
    }
}

/// A body as the queue keeps it under this id: a large one in a file of its own.
pub(crate) async fn settled_in(
    shared: &Arc<Shared>,
    id: QueueId,
    body: Body,
) -> Result<Body, StoreError> {
    let staged = body.file().map(|file| file.is_staged_for(id, &shared.big));
    let large = body.len() > shared.options.big_bytes as u64;
    match (staged, large) {
        (Some(true), _) | (None, false) => Ok(body),
        (Some(false), _) | (None, true) => copied(shared, id, &body).await,
    }
}

async fn copied(shared: &Arc<Shared>, id: QueueId, body: &Body) -> Result<Body, StoreError> {
    let mut staging = DiskStaging::begin(shared, id).await?;
    let mut pieces = body.pieces();
    while let Some(piece) = pieces.next().await? {
        staging.add(piece).await?;
    }
    staging.end().await
}

/// Opens a body for reading. None: there is no such file.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    id: QueueId,
    in_file: InFile,
) -> Result<Option<BigFile>, StoreError> {
    let files = shared.big.clone();
    blocking(move || files.open(id, in_file)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(store_error),
        Err(error) => Err(StoreError::Disk(error.to_string())),
    }
}

fn store_error(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full(error.to_string())
        }
        _ => StoreError::Disk(error.to_string()),
    }
}

fn broken_off() -> StoreError {
    StoreError::Disk("writing the body broke off earlier".to_owned())
}
