//! A value that must never be seen: no `Display`, no `Serialize`, no content in `Debug`.
//!
//! The only way to the content is [`Secret::expose`], so every place that reads a secret can be found
//! by searching for that one word.

use std::fmt;

use zeroize::Zeroize;

/// Holds a secret and wipes it from memory when dropped.
///
/// It cannot be printed, serialized or compared by accident:
///
/// ```compile_fail
/// let secret = moorline::model::Secret::new(String::from("hunter2"));
/// println!("{secret}");
/// ```
///
/// ```compile_fail
/// let secret = moorline::model::Secret::new(String::from("hunter2"));
/// serde_json::to_string(&secret).unwrap();
/// ```
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the content in.
    pub fn new(content: T) -> Self {
        Self(content)
    }

    /// The content. Hand it to the one that needs it; never to a message, a report or a plan.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
