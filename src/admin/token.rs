//! The bearer token: made once, kept in a file for its owner alone, compared in constant time.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

/// Random octets in a new token: nobody guesses 256 bits.
const RANDOM_LEN: usize = 32;
/// A token that an operator puts into the file must be at least this long.
const MIN_LEN: usize = 32;
/// Larger files hold no token.
const MAX_FILE_LEN: u64 = 1024;
/// Makes a token recognisable to secret scanners.
const PREFIX: &str = "meridian_";
/// Name of the file, beside the state file.
const FILE_NAME: &str = "admin.token";

/// The secret that opens `/v1`. Never printed.
#[derive(Clone)]
pub struct Token(Option<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Token(…)" } else { "Token(none)" })
    }
}

/// Why there is no token.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read or made.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The file holds something else; it is left as it is.
    Unusable {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        detail: &'static str,
    },
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Io { path, error } => write!(f, "{}: admin token: {error}", path.display()),
            TokenError::Unusable { path, detail } => write!(f, "{}: admin token: {detail}", path.display()),
        }
    }
}

impl std::error::Error for TokenError {}

impl Token {
    /// The file of the token for a state file.
    pub fn path_beside(state: &Path) -> PathBuf {
        state.with_file_name(FILE_NAME)
    }

    /// The token in `path`; made if there is no such file. Two processes that start at once end up with the same one.
    pub fn load_or_create(path: &Path) -> Result<Token, TokenError> {
        match Token::load(path) {
            Err(TokenError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        create(path).map_err(|error| TokenError::Io { path: path.to_owned(), error })?;
        Token::load(path)
    }

    /// The token in `path`, as clients read it. Nothing is made. A file that others can read is closed to them.
    pub fn load(path: &Path) -> Result<Token, TokenError> {
        let text = read(path).map_err(|error| TokenError::Io { path: path.to_owned(), error })?;
        let unusable = |detail| TokenError::Unusable { path: path.to_owned(), detail };
        let Some(text) = text else { return Err(unusable("found no regular file of at most 1 KiB, expected the token alone on one line")) };
        let token = text.trim_ascii();
        if token.len() < MIN_LEN {
            return Err(unusable("found a token that is too short, expected at least 32 characters; remove the file to have one made"));
        }
        match std::str::from_utf8(token) {
            Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Token(Some(token.to_owned()))),
            _ => Err(unusable("found something other than visible ASCII, expected the token alone on one line")),
        }
    }

    /// A token given by the caller, for clients.
    pub fn given(text: impl Into<String>) -> Token {
        Token(Some(text.into()))
    }

    /// No token: nothing matches, so `/v1` stays closed.
    pub fn none() -> Token {
        Token(None)
    }

    /// True if `offered` is the token. Takes the same time wherever they differ.
    pub fn matches(&self, offered: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|token| token.as_bytes().ct_eq(offered).into())
    }

    /// The secret, for the `Authorization` header of a client.
    pub fn secret(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The file's content; `None` if it is no regular file or too long.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Without O_NONBLOCK a named pipe in its place would hold up the start.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_LEN {
        return Ok(None);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        // Only the owner can; for anyone else it stays the owner's affair.
        let _ = file.set_permissions(Permissions::from_mode(0o600));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE_LEN).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Writes a new token under another name and links it into place: the file is whole or not there, and an existing one stays.
fn create(path: &Path) -> io::Result<()> {
    let mut secret = [0; RANDOM_LEN];
    let no_chance = |error: getrandom::Error| io::Error::other(error.to_string());
    getrandom::fill(&mut secret).map_err(no_chance)?;
    let mut name = [0; 6];
    getrandom::fill(&mut name).map_err(no_chance)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(format!(".{FILE_NAME}.{}", BASE64URL_NOPAD.encode(&name)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(format!("{PREFIX}{}\n", BASE64URL_NOPAD.encode(&secret)).as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&draft)?;
    linked?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::instructions;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn the_first_start_makes_a_token_and_later_ones_find_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = Token::path_beside(&folder.path().join("state/meridian.db"));
        assert_eq!(path, folder.path().join("state/admin.token"));
        let first = Token::load_or_create(&path).expect("made");
        let second = Token::load_or_create(&path).expect("found");
        let secret = first.secret().expect("a secret").to_owned();
        assert!(secret.starts_with(PREFIX) && secret.len() == PREFIX.len() + 43, "{secret}");
        assert_eq!(second.secret(), Some(secret.as_str()));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path().join("state")).expect("read").count(), 1, "no draft is left behind");
        assert_ne!(Token::load_or_create(&folder.path().join("other/admin.token")).expect("made").secret(), Some(secret.as_str()));
    }

    #[test]
    fn starts_at_once_end_up_with_one_token() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("admin.token");
        let secrets: std::collections::HashSet<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| Token::load_or_create(&path).expect("made or found"))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic").secret().expect("a secret").to_owned()).collect()
        });
        assert_eq!(secrets.len(), 1);
    }

    #[test]
    fn files_that_hold_no_token_are_refused_and_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("admin.token");
        for content in ["", "\n", "short", &"x".repeat(2000), &format!("{}\n{}", "x".repeat(40), "y".repeat(40)), "ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ"]
        {
            fs::write(&path, content).expect("write");
            assert!(matches!(Token::load_or_create(&path), Err(TokenError::Unusable { .. })), "{content:?}");
            assert_eq!(fs::read_to_string(&path).expect("read"), content);
        }
        assert!(matches!(Token::load_or_create(Path::new("/proc/meridian/admin.token")), Err(TokenError::Io { .. })));
        assert!(Token::load(&folder.path().join("missing")).is_err(), "clients make no token");
    }

    #[test]
    fn an_open_file_is_closed_to_others() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("admin.token");
        fs::write(&path, "x".repeat(40)).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
        Token::load(&path).expect("usable");
        assert_eq!(mode(&path), 0o600);
    }

    #[inline(never)]
    fn measured(token: &Token, offered: &[u8]) -> bool {
        std::hint::black_box(token).matches(std::hint::black_box(offered))
    }

    #[test]
    fn a_wrong_token_costs_the_same_wherever_it_is_wrong() {
        let secret = format!("{PREFIX}{}", "s".repeat(43));
        let token = Token::given(&secret);
        if let Some(offered) = instructions::input() {
            std::hint::black_box(measured(&token, offered.as_bytes()));
            return;
        }
        let count = |offered: &str| instructions::counted("admin::token::tests::a_wrong_token_costs_the_same_wherever_it_is_wrong", offered);
        let wrong_at = |at: usize| secret.char_indices().map(|(index, char)| if index == at { 'x' } else { char }).collect::<String>();
        let counts: Vec<u64> = [0, 9, 30, secret.len() - 1].into_iter().map(|at| count(&wrong_at(at))).collect();
        assert!(counts.iter().all(|one| *one == counts[0] && *one > 43), "{counts:?}");
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::given("x".repeat(40));
        assert!(token.matches("x".repeat(40).as_bytes()));
        for wrong in ["", "x", &"x".repeat(39), &"x".repeat(41), &"y".repeat(40)] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong}");
        }
        assert!(!Token::none().matches(b""));
        assert_eq!(format!("{token:?}"), "Token(…)", "a token is never printed");
    }
}
