//! Tests of the correction: exact at points, prior far away, wider with distance.

use crate::hardware::kernel::KernelFamily;
use crate::hardware::latency::kernel_model::axes;
use crate::hardware::latency::kernel_model::carried::correction::{Correction, Prior, Site};
use crate::hardware::latency::kernel_model::carried::law::Law;
use crate::hardware::profile::HardwareProfile;
use crate::units::{Bytes, DType};

const LAW: Law = Law {
    launch_us: 3.0,
    compute_efficiency: 0.8,
    memory_efficiency: 0.8,
    cache_gbps_per_core: 40.0,
    cache_share: 0.2,
    least_tile: 0.1,
    fill_sharpness: 0.5,
    overlap: 0.5,
};

fn prior() -> Prior {
    Prior {
        constant: 0.3,
        launch: 0.5,
        compute: 0.4,
        slope: 0.05,
        local: 0.6,
        own: 0.2,
        inverse_lengths: vec![1.4; 3],
        least_scale: 0.1,
        scale_per_distance: 0.25,
        between_types: 0.2,
    }
}

fn site(dtype: DType, m: u32, n: u32, k: u32) -> Site {
    let device = HardwareProfile::builtin("h100_sxm").unwrap().device;
    let at = [m, n, k, 0, 0];
    let call = axes::call(KernelFamily::Gemm, dtype, &at);
    Site::new(dtype, &at, &call, &LAW, &device, Bytes::from_mib(50.0))
}

#[test]
fn points_come_back_and_pull_their_neighbours() {
    let scale = prior().scale(0.8);
    let points =
        [(site(DType::Bf16, 64, 4096, 4096), 0.4, 0.01), (site(DType::Bf16, 4096, 4096, 4096), -0.2, 0.01)];
    let correction = Correction::new(&prior(), scale, &points);
    for (site, stray, sigma) in &points {
        let (mean, spread) = correction.at(site);
        assert!((mean - stray).abs() < 2.0 * sigma, "{mean} {stray}");
        assert!(spread < 0.02, "{spread}");
    }
    let bare = Correction::new(&prior(), scale, &[]);
    let (near, far) = (site(DType::Bf16, 96, 4096, 4096), site(DType::Bf16, 1, 64, 65536));
    assert_eq!(bare.at(&near).0, 0.0);
    assert!(correction.at(&near).0 > 0.1);
    assert!(correction.at(&near).1 < correction.at(&far).1);
    // Another element type learns from them, but less.
    let other = correction.at(&site(DType::Fp8, 96, 4096, 4096)).0;
    assert!(other > 0.0 && other < correction.at(&near).0, "{other}");
}

#[test]
fn the_further_the_devices_the_wider() {
    let at = site(DType::Bf16, 64, 4096, 4096);
    let spreads: Vec<f64> = [0.0, 0.3, 1.0, 2.0]
        .iter()
        .map(|d| Correction::new(&prior(), prior().scale(*d), &[]).at(&at).1)
        .collect();
    assert!(spreads.is_sorted() && spreads[0] > 0.0 && spreads[3] > 2.0 * spreads[0], "{spreads:?}");
}

#[test]
fn a_point_that_contradicts_the_others_stands_out() {
    let mut points: Vec<(Site, f64, f64)> =
        (0..8).map(|i| (site(DType::Bf16, 64 + i, 4096, 4096), 0.1, 0.01)).collect();
    points[3].1 = 3.0;
    let left_out = Correction::new(&prior(), prior().scale(0.5), &points).left_out();
    let worst = (0..8).max_by(|a, b| left_out[*a].0.abs().total_cmp(&left_out[*b].0.abs())).unwrap();
    assert_eq!(worst, 3);
    assert!(left_out[3].1 > 2.0 && left_out[3].0 > 5.0, "{left_out:?}");
}
