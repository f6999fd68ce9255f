//! Bytes to text.

use anyhow::Result;

use crate::flags::fault;

/// One of the two ways to make text of bytes.
pub type Text = fn(Vec<u8>) -> Result<String>;

/// Fails where the bytes are not UTF-8, or hold a NUL, which no text has but UTF-16 and binary files do.
pub fn utf8(bytes: Vec<u8>) -> Result<String> {
    let cure = "text is read as UTF-8; another encoding must be converted, as with iconv";
    checked(bytes).map_err(|cause| fault(cause, cure))
}

/// The same for those who may choose `lossy`.
pub fn strict(bytes: Vec<u8>) -> Result<String> {
    let cure = "text is read as UTF-8: iconv converts another encoding, --lossy puts U+FFFD for such \
                bytes, --skip-bad leaves such rows out";
    checked(bytes).map_err(|cause| fault(cause, cure))
}

fn checked(bytes: Vec<u8>) -> Result<String, String> {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => Err(format!("not text: byte {} is 0", at + 1)),
        None => String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            format!("not UTF-8: byte {} is 0x{:02x}", at + 1, error.as_bytes()[at])
        }),
    }
}

/// Puts U+FFFD for every byte sequence that is not UTF-8, and for every NUL.
pub fn lossy(bytes: Vec<u8>) -> Result<String> {
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    Ok(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
}
