//! The kernels of `native` are the operations of LibTorch that they stand in for.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tapt::native;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

/// `a` is `b` to within a share of the largest number of `b`.
fn assert_near(name: &str, a: &Tensor, b: &Tensor, share: f64) {
    let difference = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max();
    let (difference, largest) = (difference.double_value(&[]), b.abs().max().double_value(&[]));
    assert!(difference <= share * largest, "{name}: {difference:e} apart, of {largest:e}");
    assert!(largest > 1e-3, "{name} is next to nothing");
}

/// Attention of one sequence by its definition, its weights multiplied by `factors` `[heads, time, time]`.
fn defined([q, k, v]: [&Tensor; 3], heads: i64, factors: Option<&Tensor>) -> Tensor {
    let time = q.size()[0];
    let [q, k, v] = [q, k, v].map(|xs| xs.view([time, heads, -1]).transpose(0, 1));
    let size = q.size()[2] as f64;
    let weights = (q.matmul(&k.transpose(1, 2)) / size.sqrt()).softmax(-1, None);
    let weights = factors.map_or_else(|| weights.shallow_clone(), |by| &weights * by);
    weights.matmul(&v).transpose(0, 1).reshape([time, -1])
}

/// The result and the gradients of q, k and v for a fixed gradient of the result.
fn with_gradients(qkv: &[Tensor; 3], run: impl Fn([&Tensor; 3]) -> Tensor) -> [Tensor; 4] {
    let [q, k, v] = qkv.each_ref().map(|xs| xs.detach().set_requires_grad(true));
    let ys = run([&q, &k, &v]);
    let given = (Tensor::arange(ys.numel() as i64, F32) * 1.7).sin().view_as(&ys);
    (&ys * given.to_kind(ys.kind())).sum(None::<Kind>).backward();
    [ys.detach(), q.grad(), k.grad(), v.grad()]
}

fn drawn(tokens: i64, hidden: i64) -> [Tensor; 3] {
    [0; 3].map(|_| Tensor::randn([tokens, hidden], F32))
}

/// What dropout made of the weights of attention: `[heads, time, time]` for one sequence, read off by values that are 1
/// at one key and 0 at the others, as many keys at a time as a head has room for.
fn weights(qk: [&Tensor; 2], heads: i64, p: f64, seed: i64) -> Tensor {
    let (time, size) = (qk[0].size()[0], qk[0].size()[1] / heads);
    let parts = (0..time).step_by(size as usize).map(|first| {
        let v = Tensor::zeros([time, heads, size], F32);
        for key in first..time.min(first + size) {
            let _ = v.get(key).select(1, key - first).fill_(1.0);
        }
        tch::manual_seed(seed);
        let v = v.view([time, -1]);
        let ys = native::attention([qk[0], qk[1], &v], [&[time]; 2], heads, p);
        let room = size.min(time - first);
        ys.view([time, heads, size]).transpose(0, 1).narrow(2, 0, room)
    });
    Tensor::cat(&parts.collect::<Vec<_>>(), 2)
}

fn attention_is_its_definition() {
    for (heads, size) in [(1, 5), (2, 16), (3, 32), (2, 64), (1, 80)] {
        let lengths = [1, 17, 2, 64, 65, 130, 16];
        let qkv = drawn(lengths.iter().sum(), heads * size);
        let ours = with_gradients(&qkv, |qkv| native::attention(qkv, [&lengths; 2], heads, 0.0));
        let exact = qkv.each_ref().map(|xs| xs.to_kind(Kind::Double));
        let theirs = with_gradients(&exact, |qkv| {
            let [q, k, v] = qkv.map(|xs| xs.split_with_sizes(lengths, 0));
            let each = (0..lengths.len()).map(|i| defined([&q[i], &k[i], &v[i]], heads, None));
            Tensor::cat(&each.collect::<Vec<_>>(), 0)
        });
        for (name, (ours, theirs)) in ["ys", "q", "k", "v"].iter().zip(ours.iter().zip(&theirs)) {
            assert_near(&format!("{name} of {heads} heads of {size}"), ours, theirs, 2e-6);
        }
    }
}

fn attention_with_dropout_is_its_definition() {
    let (heads, p, seed) = (2, 0.25, 7);
    for (time, size) in [(1, 8), (9, 16), (70, 32), (130, 8)] {
        let qkv = drawn(time, heads * size);
        let factors = {
            let dropped = weights([&qkv[0], &qkv[1]], heads, p, seed);
            dropped.not_equal(0.0).to_kind(Kind::Double) / (1.0 - p)
        };
        let kept = (factors.mean(None::<Kind>) * (1.0 - p)).double_value(&[]);
        let (spread, count) = ((p * (1.0 - p)).sqrt(), factors.numel() as f64);
        assert!((kept - (1.0 - p)).abs() < 5.0 * spread / count.sqrt(), "{kept} of {count} kept");
        let ours = with_gradients(&qkv, |qkv| {
            tch::manual_seed(seed);
            native::attention(qkv, [&[time]; 2], heads, p)
        });
        let exact = qkv.each_ref().map(|xs| xs.to_kind(Kind::Double));
        let theirs = with_gradients(&exact, |qkv| defined(qkv, heads, Some(&factors)));
        for (name, (ours, theirs)) in ["ys", "q", "k", "v"].iter().zip(ours.iter().zip(&theirs)) {
            let difference = (ours - theirs).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{name} of {time} tokens differs by {difference:e}");
        }
    }
}

/// Queries of some tokens are the rows of all, and so are the gradients where the others' are zero.
fn attention_of_some_queries_is_theirs_of_all() {
    let (lengths, counts) = ([5i64, 3, 70, 1], [1i64, 0, 66, 1]);
    let [q, k, v] = drawn(79, 32);
    let rows: Vec<i64> = [2].into_iter().chain(10..76).chain([78]).collect();
    let rows = Tensor::from_slice(&rows);
    let some = with_gradients(&[q.index_select(0, &rows), k.copy(), v.copy()], |qkv| {
        native::attention(qkv, [&lengths, &counts], 2, 0.0)
    });
    let all = with_gradients(&[q, k, v], |qkv| {
        native::attention(qkv, [&lengths; 2], 2, 0.0).index_select(0, &rows)
    });
    assert_near("ys", &some[0], &all[0], 1e-6);
    assert_near("q", &some[1], &all[1].index_select(0, &rows), 1e-6);
    for (name, i) in [("k", 2), ("v", 3)] {
        assert_near(name, &some[i], &all[i], 1e-6);
    }
}

/// What is given as bf16 is computed in f32, and rounded once.
fn bf16_is_f32_rounded() {
    let lengths = [1i64, 17, 70];
    let half = |xs: &Tensor| xs.to_kind(Kind::BFloat16);
    let qkv = drawn(88, 64).map(|xs| half(&xs));
    let whole = qkv.each_ref().map(|xs| xs.to_kind(Kind::Float));
    for p in [0.0, 0.25] {
        let of = |qkv: &[Tensor; 3]| {
            with_gradients(qkv, |qkv| {
                tch::manual_seed(3);
                native::attention(qkv, [&lengths; 2], 2, p)
            })
        };
        for (ours, exact) in of(&qkv).iter().zip(&of(&whole)) {
            assert_eq!(ours.kind(), Kind::BFloat16);
            assert_near("attention", ours, exact, 1.0 / 128.0);
        }
        tch::manual_seed(3);
        let dropped = native::dropout(&whole[0], p);
        tch::manual_seed(3);
        assert!(native::dropout(&qkv[0], p) == half(&dropped), "dropout of bf16");
    }
    let odd = half(&Tensor::from_slice(&[f32::NAN, f32::INFINITY, -0.0, 1.0 + 1.0 / 128.0]));
    let kept = native::dropout(&odd, 0.0);
    assert!(kept.allclose(&odd, 0.0, 0.0, true), "{kept} is not {odd}");
    // Halfway between two that bf16 has, it is the even one, as LibTorch rounds: 1.5 times these.
    let ties = half(&Tensor::from_slice(&[1.0f32, 1.0 + 1.0 / 128.0, 1.0 + 3.0 / 128.0]));
    let (p, seed) = (1.0 / 3.0, 3);
    tch::manual_seed(seed);
    let many = ties.repeat([100]);
    let ours = native::dropout(&many, p);
    let scaled = half(&(many.to_kind(Kind::Float) * 1.5));
    let same = ours.eq_tensor(&scaled).logical_or(&ours.eq(0.0)).all();
    assert!(bool::try_from(same).unwrap(), "{ours} is not {scaled} where it is kept");
}

/// A long row of scores far apart, and one that is not a number.
fn attention_takes_any_scores() {
    let [q, k, v] = drawn(40, 16).map(|xs| xs * 40.0);
    let ours = native::attention([&q, &k, &v], [&[40]; 2], 1, 0.0);
    let exact = [&q, &k, &v].map(|xs| xs.to_kind(Kind::Double));
    assert_near("large scores", &ours, &defined(exact.each_ref(), 1, None), 1e-4);
    let _ = q.get(3).fill_(f64::NAN);
    let broken = native::attention([&q, &k, &v], [&[40]; 2], 1, 0.0).isnan().any_dim(1, false);
    let rows = Vec::<bool>::try_from(broken).unwrap();
    assert!(rows.iter().enumerate().all(|(i, &nan)| nan == (i == 3)), "{rows:?}");
    let none = Tensor::zeros([0, 16], F32);
    assert_eq!(native::attention([&none; 3], [&[]; 2], 1, 0.1).size(), [0, 16]);
}

fn dropout_drops_a_share_and_scales_the_rest() {
    let xs = Tensor::ones([97, 1031], F32).set_requires_grad(true);
    let drop = |seed| {
        tch::manual_seed(seed);
        native::dropout(&xs, 0.1)
    };
    let ys = drop(1);
    let dropped = ys.eq(0.0).to_kind(Kind::Double).mean(None::<Kind>).double_value(&[]);
    let spread = (0.1f64 * 0.9 / xs.numel() as f64).sqrt();
    assert!((dropped - 0.1).abs() < 5.0 * spread, "{dropped} dropped");
    assert_eq!(ys.max().double_value(&[]) as f32, 1.0 / (1.0 - 0.1));
    ys.sum(Kind::Float).backward();
    assert!(xs.grad() == ys, "the gradient is not what was kept");
    assert!(drop(1) == ys && drop(2) != ys, "the generator's seed is not the mask's");
    assert!(native::dropout(&xs, 0.1) != drop(2), "two draws are one");
    assert_eq!(native::dropout(&xs, 1.0).abs().max().double_value(&[]), 0.0);
}

fn products_are_exact_to_f32() {
    for (tokens, from, to) in [(700, 384, 384), (500, 256, 1024), (500, 1024, 256)] {
        // Which of input, weight and bias train; the last two have no bias at all.
        for trains in [[true; 3], [true, false, false], [false, true, true], [true, true, false]] {
            let size = [vec![tokens, from], vec![to, from], vec![to]];
            let leaf = |i: usize| Tensor::randn(&size[i], F32).set_requires_grad(trains[i]);
            let all = [0, 1, 2].map(leaf);
            let exact = [0, 1, 2]
                .map(|i| all[i].detach().to_kind(Kind::Double).set_requires_grad(trains[i]));
            let bias = trains[2] || !trains[1];
            let given = Tensor::randn([tokens, to], F32);
            let ours = native::linear(&all[0], &all[1], bias.then_some(&all[2]));
            let theirs = exact[0].linear(&exact[1], bias.then_some(&exact[2]));
            (&ours * &given).sum(Kind::Float).backward();
            (&theirs * given.to_kind(Kind::Double)).sum(Kind::Double).backward();
            assert_near("ys", &ours, &theirs, 2e-6);
            for i in (0..3).filter(|&i| trains[i]) {
                assert_near("a gradient", &all[i].grad(), &exact[i].grad(), 2e-6);
            }
        }
    }
}

/// Rows that do not lie end to end, sequences without tokens, a gradient that is one number spread out.
fn attention_takes_any_layout() {
    let together = Tensor::randn([12, 3 * 32], F32).set_requires_grad(true);
    let apart = |from: &Tensor| {
        let qkv = from.split(32, 1);
        native::attention([&qkv[0], &qkv[1], &qkv[2]], [&[0, 5, 0, 7]; 2], 2, 0.0)
    };
    apart(&together).sum(Kind::Float).backward();
    let copies = [0, 1, 2].map(|i| together.detach().narrow(1, 32 * i, 32).contiguous());
    let [_, q, k, v] = with_ones(&copies, |qkv| native::attention(qkv, [&[5, 7]; 2], 2, 0.0));
    assert_near("q, k and v in one", &together.grad(), &Tensor::cat(&[q, k, v], 1), 1e-6);
}

fn with_ones(qkv: &[Tensor; 3], run: impl Fn([&Tensor; 3]) -> Tensor) -> [Tensor; 4] {
    let [q, k, v] = qkv.each_ref().map(|xs| xs.detach().set_requires_grad(true));
    let ys = run([&q, &k, &v]);
    (&ys * ys.ones_like()).sum(Kind::Float).backward();
    [ys.detach(), q.grad(), k.grad(), v.grad()]
}

fn what_does_not_fit_is_refused() {
    let xs = |rows: i64, columns: i64| Tensor::zeros([rows, columns], F32);
    let refused = |what: &str, call: &dyn Fn() -> Tensor| {
        let result = catch_unwind(AssertUnwindSafe(call));
        assert!(result.is_err(), "{what} is taken");
    };
    let attend = |k: Tensor, lengths: &[i64], heads| {
        let q = xs(6, 8);
        native::attention([&q, &k, &q], [lengths; 2], heads, 0.0)
    };
    let queries = |counts: &[i64]| {
        native::attention([&xs(2, 8), &xs(6, 8), &xs(6, 8)], [&[4, 2], counts], 2, 0.0)
    };
    refused("more queries than counted", &|| queries(&[1, 0]));
    refused("queries of one sequence of two", &|| queries(&[2]));
    refused("queries of no keys", &|| {
        native::attention([&xs(2, 8), &xs(6, 8), &xs(6, 8)], [&[6, 0], &[1, 1]], 2, 0.0)
    });
    refused("fewer keys", &|| attend(xs(5, 8), &[6], 2));
    refused("f64", &|| attend(xs(6, 8).to_kind(Kind::Double), &[6], 2));
    refused("a length below 0", &|| attend(xs(6, 8), &[8, -2], 2));
    refused("too few lengths", &|| attend(xs(6, 8), &[5], 2));
    refused("no heads", &|| attend(xs(6, 8), &[6], 0));
    refused("three heads of eight", &|| attend(xs(6, 8), &[6], 3));
    refused("a probability of 2", &|| native::dropout(&xs(2, 2), 2.0));
    refused("f64", &|| native::dropout(&xs(2, 2).to_kind(Kind::Double), 0.5));
}

/// One test: the generator is one for the process. For the other instruction sets of the machine it runs itself again.
#[test]
fn native_is_what_it_stands_for() {
    tch::manual_seed(11);
    attention_is_its_definition();
    attention_with_dropout_is_its_definition();
    attention_of_some_queries_is_theirs_of_all();
    bf16_is_f32_rounded();
    attention_takes_any_scores();
    dropout_drops_a_share_and_scales_the_rest();
    products_are_exact_to_f32();
    attention_takes_any_layout();
    what_does_not_fit_is_refused();
    common::on_other_instructions();
}
