//! How sure a share is.

/// Wilson's score interval (Wilson 1927) of the share `right` of `all`, `z` standard errors wide on either side: 1.96 holds
/// the true share in 95 of 100 samples. Without a sample it is everything.
pub fn wilson(right: u64, all: u64, z: f64) -> (f64, f64) {
    if all == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (all as f64, right as f64 / all as f64);
    let (square, scale) = (z * z, 1.0 + z * z / n);
    let middle = (share + square / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    // Where all or none are right, an end is exactly 1 or 0, and rounding is not.
    let low = if right == 0 { 0.0 } else { middle - half };
    let high = if right == all { 1.0 } else { middle + half };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 8 of 10, z = 2: middle (0.8 + 4 / 20) / 1.4 = 5 / 7, half 2 / 1.4 * sqrt(0.016 + 0.01).
        let (low, high) = wilson(8, 10, 2.0);
        let half = 2.0 / 1.4 * 0.026f64.sqrt();
        assert!((low - (5.0 / 7.0 - half)).abs() < 1e-15, "{low}");
        assert!((high - (5.0 / 7.0 + half)).abs() < 1e-15, "{high}");
        // 0 of 4: from 0 to z^2 / (n + z^2).
        let (low, high) = wilson(0, 4, 2.0);
        assert!(low == 0.0 && (high - 0.5).abs() < 1e-15, "{low} {high}");
        assert_eq!(wilson(4, 4, 2.0).1, 1.0);
        assert_eq!(wilson(0, 0, 2.0), (0.0, 1.0));
    }
}
