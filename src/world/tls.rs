//! TLS: one choice of cryptography for all of the program.

use std::sync::Once;

/// Must be called before a client is made; once is enough.
pub fn set_up() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that the program has chosen one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
