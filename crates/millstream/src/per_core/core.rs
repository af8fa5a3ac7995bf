//! The threads of a server's cores, each with its runtime, and how others learn that they have ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use millstream_core::{ErrorClass, Failure};
use tokio::sync::{oneshot, watch};

use crate::error::ServeError;
use crate::report::panic_text;
use crate::server::Server;
use crate::sync::Mutex;

pub(super) struct Threads {
    /// How many have not ended.
    living: watch::Sender<usize>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Default for Threads {
    fn default() -> Self {
        Self { living: watch::Sender::new(0), handles: Mutex::new(Vec::new()) }
    }
}

impl Threads {
    /// Starts the thread of a core, which makes its server by `serve`, in its runtime, and ends with it.
    pub(super) async fn start(
        &self,
        core: usize,
        serve: impl FnOnce() -> Result<Server, ServeError> + Send + 'static,
    ) -> Result<Server, ServeError> {
        let (tell, told) = oneshot::channel();
        let living = Living::new(&self.living);
        let work = move || {
            // To be dropped last: the runtime closes its descriptors before.
            let _living = living;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = tell.send(Err(ServeError::Core { core, failure: Failure::from(&error) }));
                    return;
                }
            };
            runtime.block_on(async move {
                let served = catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|payload| {
                    let text = format!("making its handler panicked: {}", panic_text(&*payload));
                    let failure = Failure::new(std::io::ErrorKind::Other, text, ErrorClass::BadCall);
                    Err(ServeError::Core { core, failure })
                });
                let closed = served.as_ref().ok().map(Server::closed);
                // If nobody waits for it any more, it is dropped here, and closed by that.
                let _ = tell.send(served);
                if let Some(closed) = closed {
                    closed.await;
                }
            });
        };
        let thread = Builder::new().name(format!("millstream-{core}")).spawn(work);
        let thread = thread.map_err(|error| ServeError::Core { core, failure: Failure::from(&error) })?;
        self.handles.lock().push(thread);
        told.await.unwrap_or(Err(ServeError::Closed))
    }

    /// Waits until all have ended.
    pub(super) async fn ended(&self) {
        let _ = self.living.subscribe().wait_for(|&living| living == 0).await;
        // They have nothing left to do but to return.
        for thread in self.handles.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

/// A thread that has not ended, however it ends.
struct Living(watch::Sender<usize>);

impl Living {
    fn new(living: &watch::Sender<usize>) -> Self {
        living.send_modify(|living| *living += 1);
        Self(living.clone())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.send_modify(|living| *living -= 1);
    }
}
