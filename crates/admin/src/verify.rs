//! Verifying the queue while it is in use: one at a time, whoever asks for it sees how far it is.

use std::sync::{Arc, Mutex, MutexGuard};

use relay_queue::Store;
use relay_queue::verify::{Progress, Report};

use crate::view::VerifyView;

/// The verification that runs, or the last one.
#[derive(Clone, Default)]
pub struct Verification(Arc<Mutex<Run>>);

#[derive(Default)]
enum Run {
    #[default]
    Never,
    Now(Arc<Progress>),
    Ended(Result<Report, String>),
}

impl Verification {
    /// Begins one, unless one is running.
    pub fn begin(&self, store: Arc<dyn Store>) -> VerifyView {
        let mut run = self.run();
        if !matches!(*run, Run::Now(_)) {
            let progress = Arc::new(Progress::default());
            *run = Run::Now(progress.clone());
            let this = self.clone();
            tokio::spawn(async move {
                let ended = store.verify(progress).await;
                *this.run() = Run::Ended(ended.map_err(|error| error.to_string()));
            });
        }
        view(&run)
    }

    pub fn now(&self) -> VerifyView {
        view(&self.run())
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn view(run: &Run) -> VerifyView {
    let mut view = VerifyView::default();
    match run {
        Run::Never => {}
        Run::Now(progress) => {
            view.running = true;
            (view.done_bytes, view.total_bytes) = progress.bytes();
        }
        Run::Ended(Ok(report)) => view.report = Some(report.clone()),
        Run::Ended(Err(error)) => view.error = Some(error.clone()),
    }
    view
}
