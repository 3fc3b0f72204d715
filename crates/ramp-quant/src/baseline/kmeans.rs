//! Weighted k-means in one dimension, solved exactly.

/// The at most `k` centroids, rising, with the least `Σ w (x - c)²`, for points that are sorted by `x`, with weights
/// above 0.
///
/// In one dimension clusters are intervals, and the best start of the last one never moves left when a point is added,
/// so that dynamic programming takes `O(k n log n)` (Wang and Song, "Ckmeans.1d.dp", 2011; divide and conquer). Lloyd's
/// iterations, which the published program uses, depend on a random start and end in a local minimum.
pub(super) fn kmeans(points: &[(f64, f64)], k: usize) -> Vec<f64> {
    let n = points.len();
    if n == 0 {
        return Vec::new();
    }
    let k = k.min(n);
    let sums = Sums::new(points);
    // cost[j]: of the first j points in so many clusters; starts[c][j]: where the last of c + 1 clusters begins.
    let mut cost: Vec<f64> = (0..=n).map(|j| sums.cost(0, j)).collect();
    let mut starts = vec![vec![0usize; n + 1]];
    for c in 1..k {
        let mut next = vec![f64::INFINITY; n + 1];
        let mut start = vec![0; n + 1];
        fill(&sums, &cost, &mut next, &mut start, (c + 1, n), (c, n - 1));
        cost = next;
        starts.push(start);
    }
    let mut centroids = Vec::with_capacity(k);
    let mut end = n;
    for start in starts.iter().rev() {
        centroids.push(sums.mean(start[end], end));
        end = start[end];
    }
    centroids.reverse();
    centroids
}

/// Fills `next[lo..=hi]`, knowing that the best starts are between the two given ones.
fn fill(
    sums: &Sums,
    cost: &[f64],
    next: &mut [f64],
    start: &mut [usize],
    (lo, hi): (usize, usize),
    (first, last): (usize, usize),
) {
    if lo > hi {
        return;
    }
    let middle = lo + (hi - lo) / 2;
    let starts = first..=last.min(middle - 1);
    for (at, cost) in starts.clone().zip(&cost[starts]) {
        let total = cost + sums.cost(at, middle);
        if total < next[middle] {
            (next[middle], start[middle]) = (total, at);
        }
    }
    let best = start[middle];
    fill(sums, cost, next, start, (lo, middle - 1), (first, best));
    fill(sums, cost, next, start, (middle + 1, hi), (best, last));
}

/// Sums over the first points.
struct Sums {
    w: Vec<f64>,
    wx: Vec<f64>,
    wxx: Vec<f64>,
}

impl Sums {
    fn new(points: &[(f64, f64)]) -> Self {
        let mut sums = Self { w: vec![0.0], wx: vec![0.0], wxx: vec![0.0] };
        // Around the middle, and with weights near 1, so that differences of sums lose little.
        let mean = points.iter().map(|p| p.1).sum::<f64>() / points.len() as f64;
        let (mut w, mut wx, mut wxx) = (0.0, 0.0, 0.0);
        for &(x, weight) in points {
            let weight = weight / mean;
            w += weight;
            wx += weight * x;
            wxx += weight * x * x;
            sums.w.push(w);
            sums.wx.push(wx);
            sums.wxx.push(wxx);
        }
        sums
    }

    fn cost(&self, from: usize, to: usize) -> f64 {
        let w = self.w[to] - self.w[from];
        if w <= 0.0 {
            return 0.0;
        }
        let wx = self.wx[to] - self.wx[from];
        (self.wxx[to] - self.wxx[from] - wx * wx / w).max(0.0)
    }

    fn mean(&self, from: usize, to: usize) -> f64 {
        (self.wx[to] - self.wx[from]) / (self.w[to] - self.w[from]).max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least cost over all ways to cut the points, by trying them.
    fn least(points: &[(f64, f64)], k: usize) -> f64 {
        if points.is_empty() {
            return 0.0;
        }
        if k == 0 {
            return f64::INFINITY;
        }
        (0..points.len())
            .map(|start| {
                let last = &points[start..];
                let w: f64 = last.iter().map(|p| p.1).sum();
                let mean = last.iter().map(|p| p.0 * p.1).sum::<f64>() / w;
                least(&points[..start], k - 1) + last.iter().map(|p| p.1 * (p.0 - mean).powi(2)).sum::<f64>()
            })
            .fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn no_partition_is_better(mut points in prop::collection::vec((-1.0f64..1.0, 0.01f64..3.0), 1..9), k in 1usize..5) {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let centroids = kmeans(&points, k);
            prop_assert!(centroids.len() == k.min(points.len()) && centroids.is_sorted());
            let nearest = |x: f64| centroids.iter().map(|c| (x - c).powi(2)).fold(f64::INFINITY, f64::min);
            let cost: f64 = points.iter().map(|&(x, w)| w * nearest(x)).sum();
            prop_assert!(cost <= least(&points, k) + 1e-9, "{} {}", cost, least(&points, k));
        }
    }
}
