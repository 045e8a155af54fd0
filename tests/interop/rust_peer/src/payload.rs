//! Bytes to send, named in few words, and bytes received, told in few words.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const TOLD_BYTES: usize = 256;

/// A text, or a count of bytes that never repeat.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Payload {
    Text(String),
    Count(usize),
}

impl Payload {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Payload::Text(text) => text.into_bytes(),
            Payload::Count(count) => noise(count, 1),
        }
    }
}

/// `count` pseudo-random bytes (xorshift64), the same ones for the same `seed`.
pub fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Length and hash of `bytes`, and what they say where that is short.
pub fn describe(bytes: &[u8]) -> Value {
    let text = (bytes.len() <= TOLD_BYTES).then(|| String::from_utf8_lossy(bytes));
    json!({"bytes": bytes.len(), "sha256": hex(&Sha256::digest(bytes)), "text": text})
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
