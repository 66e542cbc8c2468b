//! A large message that comes in pieces: into a file as they come, taken over when all of it is there.

use relay_queue::Staging;
use relay_smtp::QueueId;

use super::{Became, Trouble, is_known, take_over};
use crate::line::{MessageLine, PieceLine};
use crate::world::AdminWorld;

/// The message whose pieces come.
pub(super) struct Coming {
    /// Of its line.
    pub(super) number: u64,
    /// None: nobody wants it, whatever comes; its line has been answered for.
    wanted: Option<Wanted>,
}

struct Wanted {
    line: MessageLine,
    id: QueueId,
    /// Of all of it, as its line says.
    checksum: u32,
    /// Of what has come.
    so_far: u32,
    left: u64,
    file: Box<dyn Staging>,
}

impl Coming {
    pub(super) fn unwanted(number: u64) -> Coming {
        let wanted = None;
        Coming { number, wanted }
    }

    /// None: it is known already.
    pub(super) async fn begin(
        world: &AdminWorld,
        number: u64,
        line: MessageLine,
        checksum: u32,
    ) -> Result<Option<Coming>, Trouble> {
        let refused = |why: String| Err(Trouble::Line(why));
        // One that was accepted has got a header or two more.
        let most = world.config.load().submission.message_bytes_max;
        let size = line.size;
        if size > most.saturating_add(1 << 20) {
            return refused(format!(
                "size = {size}: submission.message_bytes_max allows {most}"
            ));
        }
        if size == 0 {
            return refused("size = 0: there are no pieces of nothing".to_owned());
        }
        if is_known(world, &line, &line.origin(checksum)).await? {
            return Ok(None);
        }
        let id = world.store.next_id();
        // Before its bytes are written.
        line.message(id).map_err(Trouble::Line)?;
        let wanted = Wanted {
            file: world.store.stage(id).await?,
            left: size,
            so_far: 0,
            line,
            id,
            checksum,
        };
        let wanted = Some(wanted);
        Ok(Some(Coming { number, wanted }))
    }

    /// Some: that was the last piece.
    pub(super) async fn take(
        &mut self,
        world: &AdminWorld,
        line: &[u8],
    ) -> Result<Option<Became>, Trouble> {
        let Some(wanted) = &mut self.wanted else {
            return Ok(None);
        };
        wanted.add(line).await?;
        match self.wanted.take_if(|wanted| wanted.left == 0) {
            Some(whole) => whole.finish(world).await.map(Some),
            None => Ok(None),
        }
    }

    /// Bytes that have not come. None: it has come to its end, or nobody wants it.
    pub(super) fn missing(&self) -> Option<u64> {
        self.wanted.as_ref().map(|wanted| wanted.left)
    }
}

impl Wanted {
    async fn add(&mut self, line: &[u8]) -> Result<(), Trouble> {
        let piece: PieceLine = serde_json::from_slice(line)
            .map_err(|error| Trouble::Line(format!("one of its pieces: {error}")))?;
        let bytes = piece.bytes().map_err(Trouble::Line)?;
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| {
            let size = self.line.size;
            Trouble::Line(format!("size = {size}: its pieces have more bytes"))
        })?;
        self.so_far = relay_queue::checksum_after(self.so_far, &bytes);
        self.file.write(bytes).await?;
        Ok(())
    }

    async fn finish(self, world: &AdminWorld) -> Result<Became, Trouble> {
        if self.so_far != self.checksum {
            let why = "its pieces have another checksum: some were changed or lost";
            return Err(Trouble::Line(why.to_owned()));
        }
        let body = self.file.finish().await?;
        let origin = self.line.origin(self.checksum);
        take_over(world, &self.line, self.id, body, origin).await
    }
}
