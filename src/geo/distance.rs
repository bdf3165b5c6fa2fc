//! Distance on the globe, the bias of proximity policies, and a guess of round-trip time from distance.

use crate::policy::model::Location;

/// Mean radius of the earth, km (IUGG).
const EARTH_RADIUS_KM: f64 = 6371.0088;
/// Round-trip time over no distance at all, ms: access networks and queues. Median of measured pairs (algorithms: facts that shape the design).
const BASE_RTT_MS: f64 = 8.0;
/// Round-trip time per km of great circle, ms: light in fibre takes 0.01; detours double it.
const RTT_MS_PER_KM: f64 = 0.021;

/// Great-circle distance, km (haversine: exact enough at every distance; the error of taking the earth for a ball is below 0.6 %).
pub fn distance_km(a: Location, b: Location) -> f64 {
    let (lat_a, lat_b) = (a.lat.to_radians(), b.lat.to_radians());
    let half_lat = ((lat_b - lat_a) / 2.0).sin();
    let half_lon = ((b.lon - a.lon).to_radians() / 2.0).sin();
    let chord = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
    // Rounding may push opposite points past 1.
    2.0 * EARTH_RADIUS_KM * chord.sqrt().min(1.0).asin()
}

/// A distance as a bias of −99 to 99 makes it look: positive ones draw clients in, negative ones push them away.
pub fn biased(distance: f64, bias: i8) -> f64 {
    let share = f64::from(bias.clamp(-99, 99)) / 100.0;
    if share >= 0.0 { distance * (1.0 - share) } else { distance / (1.0 + share) }
}

/// What a round trip over this distance usually takes, ms.
pub fn rtt_ms(distance_km: f64) -> f64 {
    BASE_RTT_MS + RTT_MS_PER_KM * distance_km
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lat: f64, lon: f64) -> Location {
        Location { lat, lon }
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        let half = std::f64::consts::PI * EARTH_RADIUS_KM;
        for (a, b, km) in [
            (at(50.1, 8.7), at(50.1, 8.7), 0.0),
            (at(50.1, 8.7), at(40.7, -74.0), 6206.0),       // Frankfurt, New York
            (at(-33.9, 151.2), at(-34.6, -58.4), 11_801.0), // Sydney, Buenos Aires: over the date line
            (at(0.0, 179.5), at(0.0, -179.5), 111.2),
            (at(90.0, 0.0), at(90.0, 123.0), 0.0),
            (at(90.0, 0.0), at(-90.0, 77.0), half),
            (at(0.0, 0.0), at(0.0, 180.0), half),
            (at(12.3, -45.6), at(-12.3, 134.4), half),
        ] {
            let found = distance_km(a, b);
            assert!((found - km).abs() <= km * 0.005 + 0.01, "{a:?} to {b:?}: {found}, expected {km}");
            assert!((found - distance_km(b, a)).abs() < 1e-6);
        }
    }

    #[test]
    fn bias_draws_in_and_pushes_away() {
        for (bias, expected) in [(0, 1000.0), (50, 500.0), (99, 10.0), (-50, 2000.0), (-99, 100_000.0), (-20, 1250.0), (127, 10.0), (-128, 100_000.0)]
        {
            assert!((biased(1000.0, bias) - expected).abs() < 1e-6, "{bias}: {}", biased(1000.0, bias));
        }
    }

    #[test]
    fn round_trips_grow_with_distance() {
        assert_eq!(rtt_ms(0.0), 8.0);
        assert_eq!(rtt_ms(1000.0), 29.0);
    }
}
