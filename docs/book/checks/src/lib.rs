//! Tests the book. Its Rust snippets are this crate's documentation tests; its links are checked in the sources by a test,
//! and in the built site by `make book`, whose links to pages from elsewhere in the repository this crate translates.

pub mod markdown;
pub mod reference;
pub mod site;

/// One struct a page, so that a snippet that fails is named by its page.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {$(
        #[cfg(doctest)]
        #[doc = include_str!(concat!("../../src/", $path))]
        #[derive(Debug)]
        pub struct $name;
    )*

        /// The pages whose snippets are tested.
        pub const TESTED_PAGES: &[&str] = &[$($path),*];
    };
}

pages! {
    Introduction: "introduction.md",
    RustStart: "rust/start.md",
    RustContract: "rust/contract.md",
    RustErrors: "rust/errors.md",
    RustLimits: "rust/limits.md",
    RustFromTokio: "rust/from-tokio.md",
    RustFromAsyncio: "rust/from-asyncio.md",
    CookbookLines: "rust/cookbook/lines.md",
    CookbookLengthPrefix: "rust/cookbook/length-prefix.md",
    CookbookRpc: "rust/cookbook/rpc.md",
    CookbookStarttls: "rust/cookbook/starttls.md",
    CookbookProxy: "rust/cookbook/proxy.md",
    CookbookGraceful: "rust/cookbook/graceful.md",
    CookbookTesting: "rust/cookbook/testing.md",
}

/// The snippet of the page on security, which the book includes.
#[cfg(doctest)]
#[doc = include_str!("../../../../SECURITY.md")]
#[derive(Debug)]
pub struct Security;
