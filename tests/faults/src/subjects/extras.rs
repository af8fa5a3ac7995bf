//! What a server of ours is ordered to have beyond its defaults: PROXY headers, deadlines, a cap, keepalive, sockets that it
//! inherits.

use std::time::Duration;

use millstream::proxy::ProxyProtocol;
use millstream::{Deadlines, Keepalive, ServerOptions, WhenFull};

use super::say;
use crate::Result;
use crate::args::Args;

/// The order's extras; everything is off by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// `required` or `optional`: from 127.0.0.1 and nobody else.
    proxy: Option<String>,
    proxy_timeout: Option<Duration>,
    item: Option<Duration>,
    idle: Option<Duration>,
    progress: Option<Duration>,
    cap: Option<usize>,
    refuse: bool,
    /// A second of silence and two probes, a second apart.
    keepalive: bool,
    user_timeout: Option<Duration>,
    /// Serves the sockets it was started with.
    pub(super) inherits: bool,
}

impl Extras {
    pub(super) fn of(args: &mut Args) -> Result<Self> {
        let mut millis = |name| args.value(name).map(|ms| ms.map(Duration::from_millis));
        Ok(Self {
            proxy_timeout: millis("--proxy-ms")?,
            item: millis("--item-ms")?,
            idle: millis("--idle-ms")?,
            progress: millis("--progress-ms")?,
            user_timeout: millis("--user-timeout-ms")?,
            proxy: args.value("--proxy")?,
            cap: args.value("--cap")?,
            refuse: args.value_or("--refuse", false)?,
            keepalive: args.value_or("--keepalive", false)?,
            inherits: args.value_or("--inherits", false)?,
        })
    }

    /// The options with all of it.
    pub(super) fn apply(&self, mut options: ServerOptions) -> Result<ServerOptions> {
        if let Some(mode) = &self.proxy {
            let protocol = match mode.as_str() {
                "required" => ProxyProtocol::required(),
                "optional" => ProxyProtocol::optional(),
                other => return Err(format!("--proxy {other}").into()),
            };
            let timeout = self.proxy_timeout.unwrap_or(millstream::proxy::DEFAULT_HEADER_TIMEOUT);
            options = options.proxy_protocol(protocol.trust("127.0.0.1")?.timeout(timeout));
            options = options.on_failure(|failure| {
                let port = failure.address().and_then(millstream::Address::port).unwrap_or(0);
                match failure.proxy_header() {
                    Some(refusal) => say(format_args!("refused {port} {refusal:?}")),
                    None => eprintln!("{failure}"),
                }
            });
        }
        let mut deadlines = Deadlines::default();
        if let Some(deadline) = self.item {
            deadlines = deadlines.item(deadline);
        }
        if let Some(timeout) = self.idle {
            deadlines = deadlines.idle(timeout);
        }
        if let Some(timeout) = self.progress {
            deadlines = deadlines.write_progress(timeout);
        }
        options = options.deadlines(deadlines).user_timeout(self.user_timeout);
        if self.keepalive {
            let second = Duration::from_secs(1);
            options = options.keepalive(Some(Keepalive::new().idle(second).interval(second).retries(2)));
        }
        if let Some(cap) = self.cap {
            options = options.max_connections(cap).farewell(FAREWELL);
            options = options.when_full(if self.refuse { WhenFull::Refuse } else { WhenFull::Wait });
        }
        Ok(options)
    }
}

/// What a peer above the cap is told where it is refused.
pub(crate) const FAREWELL: &str = "full\n";
