//! What a namespace may be called.

/// Why a namespace cannot be: no client could ask for it, or what should match its name does not parse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// A comma ends the name in a packet, and what follows a question mark is a query.
    #[error("{name:?} has {character:?}, which ends a namespace's name")]
    Character {
        /// The name.
        name: String,
        /// What it has.
        character: char,
    },
    /// Clients may not ask for names of that length: see [`ServerConfig::limits`](crate::ServerConfig::limits).
    #[error("a name of {bytes} bytes, of at most {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most that a client may ask for.
        max: usize,
    },
    /// The pattern does not parse.
    #[error("the pattern {pattern:?}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: matchit::InsertError,
    },
    /// The regular expression does not parse, or is too large.
    #[error("the regular expression")]
    Regex(#[source] Box<regex::Error>),
}

/// The name with its leading slash.
///
/// # Errors
/// [`NamespaceError::Character`] and [`NamespaceError::TooLong`]: no official client can ask for it (what is behind a `?` is a query to it).
pub(crate) fn checked(name: &str, max_bytes: usize) -> Result<String, NamespaceError> {
    let name = with_slash(name);
    if let Some(character) = name.chars().find(|character| matches!(character, ',' | '?')) {
        return Err(NamespaceError::Character { name, character });
    }
    if name.len() > max_bytes {
        return Err(NamespaceError::TooLong { bytes: name.len(), max: max_bytes });
    }
    Ok(name)
}

pub(super) fn with_slash(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{name}") }
}
