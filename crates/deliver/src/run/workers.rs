//! Tasks with a result, so many at once, the others in line.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;

use tokio::task::{Id, JoinSet};

/// What a task was about is known also when it panics.
pub(super) struct Workers<A, T> {
    most: usize,
    running: JoinSet<T>,
    about: HashMap<Id, A>,
    /// Not begun: a future takes kilobytes, and this line may have a place for each message.
    backlog: VecDeque<(A, Begin<T>)>,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Begin<T> = Box<dyn FnOnce() -> Work<T> + Send>;

impl<A, T: Send + 'static> Workers<A, T> {
    pub(super) fn new(most: usize) -> Workers<A, T> {
        Workers {
            most,
            running: JoinSet::new(),
            about: HashMap::new(),
            backlog: VecDeque::new(),
        }
    }

    pub(super) fn add<F>(&mut self, about: A, begin: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let begin = Box::new(move || -> Work<T> { Box::pin(begin()) });
        self.backlog.push_back((about, begin));
        self.start();
    }

    /// The next result, or what the task was about that panicked. Waits for ever while there is
    /// none. Nothing is lost when it is dropped before its end.
    pub(super) async fn next(&mut self) -> Result<T, A> {
        loop {
            let Some(done) = self.running.join_next_with_id().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let (id, result) = match done {
                Ok((id, result)) => (id, Some(result)),
                Err(error) => (error.id(), None),
            };
            let about = self.about.remove(&id);
            self.start();
            match (result, about) {
                (Some(result), _) => return Ok(result),
                (None, Some(about)) => return Err(about),
                (None, None) => {}
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Only what is running goes on.
    pub(super) fn drop_backlog(&mut self) {
        self.backlog.clear();
    }

    /// Nothing goes on.
    pub(super) fn abort(&mut self) {
        self.backlog.clear();
        self.about.clear();
        self.running.abort_all();
    }

    fn start(&mut self) {
        while self.running.len() < self.most
            && let Some((about, begin)) = self.backlog.pop_front()
        {
            let id = self.running.spawn(begin()).id();
            self.about.insert(id, about);
        }
    }
}
