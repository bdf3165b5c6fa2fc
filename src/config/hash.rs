//! A stable hash of texts: equal inputs, equal numbers, on every machine and in every version.

/// FNV-1a with 128 bits (draft-eastlake-fnv). It tells versions of an operator's own files apart; it is no defence against forgery.
#[derive(Clone, Debug)]
pub(super) struct Fnv128(u128);

impl Default for Fnv128 {
    fn default() -> Self {
        Fnv128(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv128 {
    /// Adds a text and its length, so that "ab", "c" differs from "a", "bc".
    pub(super) fn part(&mut self, text: &[u8]) {
        self.octets(text);
        self.octets(&(text.len() as u64).to_be_bytes());
    }

    fn octets(&mut self, octets: &[u8]) {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        for octet in octets {
            self.0 = (self.0 ^ u128::from(*octet)).wrapping_mul(PRIME);
        }
    }

    pub(super) fn finish(&self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_function() {
        let mut hash = Fnv128::default();
        hash.octets(b"a");
        assert_eq!(hash.finish(), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn borders_between_parts_count() {
        let of = |parts: &[&str]| {
            let mut hash = Fnv128::default();
            parts.iter().for_each(|part| hash.part(part.as_bytes()));
            hash.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }
}
