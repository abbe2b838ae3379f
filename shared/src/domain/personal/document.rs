//! CPF and CNPJ: the numbers by which the revenue service knows people and companies.

use super::prints_masked;
use crate::domain::mask::{is_valid_cnpj, mask_cnpj, mask_cpf};

/// Why a text is no CPF or CNPJ. Never repeats the text, which is personal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    /// Not as many signs as it has, or other signs, or punctuation where none stands.
    #[error("it is not written like one")]
    Form,
    /// The last two digits are not those that the others ask for.
    #[error("its check digits are wrong")]
    CheckDigits,
}

/// The eleven digits of a CPF, with lawful check digits. Prints `***.456.789-**`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpf(String);

impl Cpf {
    /// Reads `123.456.789-09` or `12345678909`.
    ///
    /// # Errors
    /// Tells what is wrong; nothing is guessed.
    pub fn parse(raw: &str) -> Result<Self, InvalidDocument> {
        let digits = unpunctuated(raw, &[(3, '.'), (7, '.'), (11, '-')], 11)?;
        let bytes = digits.as_bytes();
        if !bytes.iter().all(u8::is_ascii_digit) {
            return Err(InvalidDocument::Form);
        }
        // Eleven equal digits satisfy the sums and belong to nobody.
        let all_equal = bytes.iter().all(|b| *b == bytes[0]);
        let lawful = cpf_check(&bytes[..9]) == bytes[9] && cpf_check(&bytes[..10]) == bytes[10];
        if all_equal || !lawful {
            return Err(InvalidDocument::CheckDigits);
        }
        Ok(Self(digits))
    }

    /// The digits, in clear: for a store or a look-up, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

prints_masked!(Cpf, |cpf: &Cpf| mask_cpf(&cpf.0), Cpf::parse);

/// The fourteen signs of a CNPJ, of digits alone or alphanumeric (IN RFB 2.229/2024), with lawful check
/// digits. Prints `12.ABC.***/****-35`: a company of one person carries that person's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cnpj(String);

impl Cnpj {
    /// Reads `12.ABC.345/01DE-35` or `12ABC34501DE35`; small letters are taken for capitals.
    ///
    /// # Errors
    /// Tells what is wrong; nothing is guessed.
    pub fn parse(raw: &str) -> Result<Self, InvalidDocument> {
        let signs = unpunctuated(raw, &[(2, '.'), (6, '.'), (10, '/'), (15, '-')], 14)?
            .to_ascii_uppercase();
        if !signs.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(InvalidDocument::Form);
        }
        if !is_valid_cnpj(&signs) {
            return Err(InvalidDocument::CheckDigits);
        }
        Ok(Self(signs))
    }

    /// The signs, in clear: for a store or a look-up, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

prints_masked!(Cnpj, |cnpj: &Cnpj| mask_cnpj(&cnpj.0), Cnpj::parse);

/// A CPF or a CNPJ, as `cpfCnpj` fields have it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaxId {
    /// Of a person.
    Cpf(Cpf),
    /// Of a company.
    Cnpj(Cnpj),
}

impl TaxId {
    /// Reads either, told apart by how many signs there are.
    ///
    /// # Errors
    /// It is neither; tells why.
    pub fn parse(raw: &str) -> Result<Self, InvalidDocument> {
        match raw.chars().filter(char::is_ascii_alphanumeric).count() {
            11 => Cpf::parse(raw).map(Self::Cpf),
            14 => Cnpj::parse(raw).map(Self::Cnpj),
            _ => Err(InvalidDocument::Form),
        }
    }

    /// The signs, in clear: for a store or a look-up, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Cpf(cpf) => cpf.expose(),
            Self::Cnpj(cnpj) => cnpj.expose(),
        }
    }
}

prints_masked!(
    TaxId,
    |id: &TaxId| match id {
        TaxId::Cpf(cpf) => cpf.to_string(),
        TaxId::Cnpj(cnpj) => cnpj.to_string(),
    },
    TaxId::parse
);

/// The signs without their punctuation, which stands whole and in its places or not at all.
fn unpunctuated(
    raw: &str,
    places: &[(usize, char)],
    count: usize,
) -> Result<String, InvalidDocument> {
    let raw = raw.trim();
    if !raw.is_ascii() {
        return Err(InvalidDocument::Form);
    }
    if raw.len() == count {
        return Ok(raw.to_owned());
    }
    let punctuated = raw.len() == count + places.len()
        && places
            .iter()
            .all(|(place, sign)| raw.as_bytes()[*place] == *sign as u8);
    if !punctuated {
        return Err(InvalidDocument::Form);
    }
    Ok(raw
        .char_indices()
        .filter(|(at, _)| places.iter().all(|(place, _)| place != at))
        .map(|(_, sign)| sign)
        .collect())
}

/// Weights 2, 3, … from the right; ten or eleven stands for 0.
fn cpf_check(digits: &[u8]) -> u8 {
    let sum: u32 = digits
        .iter()
        .rev()
        .zip(2..)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    match sum % 11 {
        0 | 1 => b'0',
        rest => b'0' + u8::try_from(11 - rest).unwrap_or(0),
    }
}
