//! The settings of encryption at rest.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::keyring::{Keyring, KeyringError};

/// Settings of encryption at rest; the same for all three binaries.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SealingArgs {
    /// Keys that seal payloads and message texts in the database, `id:base64,id:base64` of 32 bytes
    /// each. The first seals; the others open what they sealed. Unset: nothing is sealed.
    #[arg(long, env = "PAYLOAD_KEYS", hide_env_values = true)]
    pub payload_keys: Option<SecretString>,
    /// A file with the same, an entry a line, instead of `PAYLOAD_KEYS`.
    #[arg(long, env = "PAYLOAD_KEYS_FILE")]
    pub payload_keys_file: Option<PathBuf>,
}

impl SealingArgs {
    /// The keys. Those of the file are read now.
    ///
    /// # Errors
    /// The setting cannot be used: do not start.
    pub fn keyring(&self) -> Result<Keyring, KeyringError> {
        let list = self.payload_keys.as_ref().map(|keys| keys.expose_secret());
        let list = list.filter(|keys| !keys.trim().is_empty());
        match (list, &self.payload_keys_file) {
            (Some(_), Some(_)) => Err(KeyringError::Both),
            (Some(list), None) => Keyring::parse(list),
            (None, Some(file)) => {
                let list = std::fs::read_to_string(file)
                    .map_err(|error| KeyringError::File(error.to_string()))?;
                Keyring::parse(&list)
            }
            (None, None) => Ok(Keyring::off()),
        }
    }
}
