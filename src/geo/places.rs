//! Countries and the continents they belong to.
//!
//! ISO 3166-1 alpha-2 as of 2024, with the continent of the GeoNames country list, which the usual databases follow: Turkey, the Caucasus and
//! Kazakhstan are in Asia; Cyprus and Russia in Europe; Egypt in Africa; East Timor in Oceania. `XK` (Kosovo) is not in the standard but in
//! every database and in use by the European Union, so it counts as a country here.
//!
//! Matching of rules is by country alone; this table gives countries without a continent one, and lets `config` warn about `EU-JP`.

/// Continent codes: Africa, Antarctica, Asia, Europe, North America (with Central America and the Caribbean), Oceania, South America.
pub const CONTINENTS: [[u8; 2]; 7] = [*b"AF", *b"AN", *b"AS", *b"EU", *b"NA", *b"OC", *b"SA"];

/// Country codes of each continent, in alphabetical order, two letters each.
const COUNTRIES: [([u8; 2], &str); 7] = [
    (
        *b"AF",
        "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW SC SD SH SL \
         SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
    ),
    (*b"AN", "AQ BV GS HM TF"),
    (
        *b"AS",
        "AE AF AM AZ BD BH BN BT CC CN GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA SA SG SY TH \
         TJ TM TR TW UZ VN YE",
    ),
    (
        *b"EU",
        "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS \
         RU SE SI SJ SK SM UA VA XK",
    ),
    (*b"NA", "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US VC VG VI"),
    (*b"OC", "AS AU CK CX FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TL TO TV UM VU WF WS"),
    (*b"SA", "AR BO BR CL CO EC FK GF GY PE PY SR UY VE"),
];

/// `PLACES[letter][letter]`: 1 + position in [`CONTINENTS`], 0 = not a country.
static PLACES: [[u8; 26]; 26] = places();

const fn places() -> [[u8; 26]; 26] {
    let mut table = [[0_u8; 26]; 26];
    let mut continent = 0;
    while continent < COUNTRIES.len() {
        let codes = COUNTRIES[continent].1.as_bytes();
        let mut at = 0;
        while at < codes.len() {
            let cell = &mut table[(codes[at] - b'A') as usize][(codes[at + 1] - b'A') as usize];
            assert!(*cell == 0, "a country is listed twice");
            *cell = continent as u8 + 1;
            at += 3;
        }
        continent += 1;
    }
    table
}

/// The continent of a country, upper case; `None` if there is no such country.
pub fn continent_of(country: [u8; 2]) -> Option<[u8; 2]> {
    let row = PLACES.get(usize::from(country[0].wrapping_sub(b'A')))?;
    let place = *row.get(usize::from(country[1].wrapping_sub(b'A')))?;
    CONTINENTS.get(usize::from(place.checked_sub(1)?)).copied()
}

/// True for an ISO 3166-1 alpha-2 code (or `XK`), upper case.
pub fn is_country(code: [u8; 2]) -> bool {
    continent_of(code).is_some()
}

/// True for `AF`, `AN`, `AS`, `EU`, `NA`, `OC`, `SA`.
pub fn is_continent(code: [u8; 2]) -> bool {
    CONTINENTS.contains(&code)
}

/// True for what may stand behind the country in an ISO 3166-2 code: 1 to 3 letters or digits, upper case.
pub fn is_subdivision(code: &str) -> bool {
    (1..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_iso_country_has_one_continent() {
        let count: usize = COUNTRIES.iter().map(|(_, codes)| codes.split(' ').count()).sum();
        assert_eq!(count, 249 + 1, "ISO 3166-1 lists 249 countries, and XK");
        for (at, (continent, codes)) in COUNTRIES.iter().enumerate() {
            assert_eq!(*continent, CONTINENTS[at]);
            for code in codes.split(' ') {
                let code: [u8; 2] = code.as_bytes().try_into().expect("two letters");
                assert_eq!(continent_of(code), Some(*continent));
            }
        }
    }

    #[test]
    fn codes_that_are_no_country_have_no_continent() {
        for code in [*b"EU", *b"UK", *b"ZZ", *b"??", *b"de", *b"A1", *b"AP", [0, 0], [0xff, 0xff], *b"[A", *b"A@"] {
            assert_eq!(continent_of(code), None, "{code:?}");
            assert!(!is_country(code));
        }
        assert!(is_continent(*b"EU") && !is_continent(*b"DE") && !is_continent(*b"eu"));
    }

    #[test]
    fn subdivisions_are_one_to_three_letters_or_digits() {
        for (code, is) in
            [("CA", true), ("34", true), ("ENG", true), ("E", true), ("", false), ("ca", false), ("CALI", false), ("C-", false), ("É", false)]
        {
            assert_eq!(is_subdivision(code), is, "{code}");
        }
    }
}
