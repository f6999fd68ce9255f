//! The operations of `native` on rows are those of LibTorch that they stand in for.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tapt::native;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const NONE: Option<Tensor> = None;

/// Widths with and without a rest beyond whole registers.
const WIDTHS: [i64; 5] = [1, 16, 23, 64, 390];

/// `a` is `b` to within a share of the largest number of `b`.
fn assert_near(name: &str, a: &Tensor, b: &Tensor, share: f64) {
    let difference = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max();
    let (difference, largest) = (difference.double_value(&[]), b.abs().max().double_value(&[]));
    assert!(
        difference <= share * largest.max(1e-3),
        "{name}: {difference:e} apart, of {largest:e}"
    );
}

fn leaf(of: &Tensor, kind: Kind) -> Tensor {
    of.detach().to_kind(kind).set_requires_grad(true)
}

/// The result, and the gradients of all that is given for a fixed gradient of the result.
fn with_gradients(of: &[Tensor], kind: Kind, run: impl Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
    let leaves: Vec<Tensor> = of.iter().map(|xs| leaf(xs, kind)).collect();
    let ys = run(&leaves);
    let given = (Tensor::arange(ys.numel() as i64, F32) * 1.7).sin().view_as(&ys);
    (&ys * given.to_kind(ys.kind())).sum(None::<Kind>).backward();
    [ys.detach()].into_iter().chain(leaves.iter().map(Tensor::grad)).collect()
}

/// `ys`, `xs`, weight and bias.
fn sublayer(rows: i64, hidden: i64) -> [Tensor; 4] {
    let row = |add: f64| Tensor::randn([hidden], F32) + add;
    [
        Tensor::randn([rows, hidden], F32),
        Tensor::randn([rows, hidden], F32) + 0.5,
        row(1.0),
        row(0.0),
    ]
}

fn norm_of_sum(of: &[Tensor], factors: &Tensor) -> Tensor {
    let sum = &of[0] * factors + &of[1];
    sum.layer_norm([of[2].size()[0]], Some(&of[2]), Some(&of[3]), 1e-12, false)
}

fn add_norm(of: &[Tensor], p: f64) -> Tensor {
    tch::manual_seed(5);
    native::add_norm([&of[0], &of[1]], [&of[2], &of[3]], 1e-12, p)
}

fn add_norm_is_its_definition() {
    for (rows, hidden) in WIDTHS.into_iter().skip(1).flat_map(|hidden| [(1, hidden), (37, hidden)])
    {
        let of = sublayer(rows, hidden);
        for p in [0.0, 0.25] {
            // What dropout keeps shows where it alone is added: LayerNorm keeps the order of what differs.
            let ones =
                [of[0].ones_like(), of[0].zeros_like(), of[2].ones_like(), of[3].zeros_like()];
            let kept = add_norm(&ones, p).gt(0.0).to_kind(Kind::Double);
            let factors = if p > 0.0 { kept / (1.0 - p) } else { kept.ones_like() };
            let ours = with_gradients(&of, Kind::Float, |of| add_norm(of, p));
            let theirs = with_gradients(&of, Kind::Double, |of| norm_of_sum(of, &factors));
            for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                assert_near(&format!("{i} of {rows} x {hidden}, p {p}"), ours, theirs, 2e-5);
            }
        }
    }
}

/// What is given as bf16 is computed in f32 and rounded: the sum once, and what comes of it.
fn add_norm_takes_bf16() {
    let half = |xs: &Tensor| xs.to_kind(Kind::BFloat16);
    let [ys, xs, weight, bias] = sublayer(9, 80);
    let of = [half(&ys), half(&xs)];
    let sum = half(&(of[0].to_kind(Kind::Float) + of[1].to_kind(Kind::Float)));
    let exact = sum.to_kind(Kind::Float).layer_norm([80], Some(&weight), Some(&bias), 1e-12, false);
    let ours = native::add_norm([&of[0], &of[1]], [&weight, &bias], 1e-12, 0.0);
    assert_eq!(ours.kind(), Kind::BFloat16);
    assert_near("bf16", &ours, &exact, 1.0 / 256.0);
    // The way back, from the same numbers, with dropout.
    let of = of.map(|xs| xs.to_kind(Kind::Float));
    let run = |kind| {
        let leaves = of.each_ref().map(|xs| leaf(xs, kind));
        tch::manual_seed(5);
        let out = native::add_norm(leaves.each_ref(), [&weight, &bias], 1e-12, 0.25);
        let given = (Tensor::arange(9 * 80, F32) * 1.7).sin().view([9, 80]);
        (&out * given.to_kind(kind)).sum(Kind::Float).backward();
        leaves.map(|leaf| leaf.grad())
    };
    for (half, whole) in run(Kind::BFloat16).iter().zip(&run(Kind::Float)) {
        assert_eq!(half.kind(), Kind::BFloat16);
        assert_near("a gradient in bf16", half, whole, 1.0 / 32.0);
    }
}

/// However many threads there are, and where the weights do not train.
fn gradients_of_weights_are_asked_for() {
    let [ys, xs, weight, bias] = sublayer(50, 64);
    let gradient = || {
        let weight = leaf(&weight, Kind::Float);
        let out = native::add_norm([&ys, &xs], [&weight, &bias], 1e-12, 0.1);
        (&out * &ys).sum(Kind::Float).backward();
        assert!(!bias.grad().defined(), "a gradient nobody asked for");
        weight.grad()
    };
    let threads = tch::get_num_threads();
    let many = [1, 3].map(|count| {
        tch::set_num_threads(count);
        tch::manual_seed(1);
        gradient()
    });
    tch::set_num_threads(threads);
    assert!(many[0] == many[1], "threads change the sums");
    let frozen = leaf(&ys, Kind::Float);
    native::add_norm([&frozen, &xs], [&weight, &bias], 1e-12, 0.1).sum(Kind::Float).backward();
    assert!(frozen.grad().defined());
}

fn cross_entropy_is_its_definition() {
    for classes in WIDTHS {
        for scale in [1.0, 60.0] {
            let logits = Tensor::randn([21, classes], F32) * scale;
            let targets = Tensor::randint(classes, [21], (Kind::Int64, Device::Cpu));
            let ours = with_gradients(&[logits.copy()], Kind::Float, |of| {
                native::cross_entropy(&of[0], &targets)
            });
            let theirs = with_gradients(&[logits.copy()], Kind::Double, |of| {
                of[0].cross_entropy_loss(&targets, NONE, Reduction::Sum, -100, 0.0) + 0.0
            });
            assert_near(&format!("loss of {classes}"), &ours[0], &theirs[0], 2e-6);
            assert_near(&format!("gradient of {classes}"), &ours[1], &theirs[1], 2e-6);
            let half = leaf(&logits, Kind::BFloat16);
            let loss = native::cross_entropy(&half, &targets);
            assert_eq!(loss.kind(), Kind::Float);
            assert_near("bf16", &loss, &theirs[0], 1.0 / 64.0);
            loss.backward();
            let whole = leaf(&half, Kind::Double);
            let sum = whole.cross_entropy_loss(&targets, NONE, Reduction::Sum, -100, 0.0);
            sum.backward();
            assert_near("gradient in bf16", &half.grad(), &whole.grad(), 1.0 / 128.0);
        }
    }
    let none = Tensor::zeros([0, 5], F32);
    let no_target = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
    assert_eq!(native::cross_entropy(&none, &no_target).double_value(&[]), 0.0);
    let logits = Tensor::from_slice(&[f32::NAN, 1.0, 2.0]).view([1, 3]);
    let loss = native::cross_entropy(&logits, &Tensor::from_slice(&[1i64]));
    assert!(loss.double_value(&[]).is_nan(), "{loss} of a row that is not a number");
}

/// Alone, beside a decoder tied to the table, over two micro-batches, and without gradients.
fn embedding_is_its_definition() {
    let ids = Tensor::from_slice(&[3i64, 0, 2999, 3, 3]);
    let table = Tensor::randn([3000, 24], F32);
    for tied in [false, true] {
        let run = |weight: &Tensor, rows: &dyn Fn(&Tensor) -> Tensor| {
            for _ in 0..2 {
                let decoded = if tied {
                    weight.tanh().sum(None::<Kind>)
                } else {
                    weight.new_zeros([], (weight.kind(), Device::Cpu))
                };
                (rows(weight).sin().sum(None::<Kind>) + decoded).backward();
            }
            weight.grad()
        };
        let ours = run(&leaf(&table, Kind::Float), &|weight| native::embedding(weight, &ids));
        let theirs = run(&leaf(&table, Kind::Double), &|weight| {
            Tensor::embedding(weight, &ids, -1, false, false)
        });
        assert_near("the gradient of a table", &ours, &theirs, 1e-6);
    }
    let threads = tch::get_num_threads();
    let many = [1, 3].map(|count| {
        tch::set_num_threads(count);
        let weight = leaf(&table, Kind::Float);
        (native::embedding(&weight, &ids) * 0.3).exp().sum(Kind::Float).backward();
        weight.grad()
    });
    tch::set_num_threads(threads);
    assert!(many[0] == many[1], "threads change the sums of a table");
    let rows = no_grad(|| native::embedding(&leaf(&table, Kind::Float), &ids));
    assert!(rows == table.index_select(0, &ids) && !rows.requires_grad());
}

fn what_does_not_fit_is_refused() {
    let xs = |rows: i64, columns: i64| Tensor::zeros([rows, columns], F32);
    let refused = |what: &str, call: &dyn Fn() -> Tensor| {
        let result = catch_unwind(AssertUnwindSafe(call));
        assert!(result.is_err(), "{what} is taken");
    };
    let [_, _, weight, bias] = sublayer(1, 8);
    let norm = |ys: Tensor, xs: Tensor, weight: &Tensor| {
        native::add_norm([&ys, &xs], [weight, &bias], 1e-12, 0.0)
    };
    refused("rows of another length", &|| norm(xs(2, 8), xs(2, 7), &weight));
    let double = || xs(2, 8).to_kind(Kind::Double);
    refused("f64", &|| norm(double(), double(), &weight));
    refused("two types", &|| norm(double(), xs(2, 8), &weight));
    refused("weights of bf16", &|| norm(xs(2, 8), xs(2, 8), &weight.to_kind(Kind::BFloat16)));
    refused("fewer weights", &|| norm(xs(2, 8), xs(2, 8), &weight.narrow(0, 0, 4)));
    let loss = |targets: &[i64]| native::cross_entropy(&xs(2, 8), &Tensor::from_slice(targets));
    refused("a target beyond the classes", &|| loss(&[0, 8]));
    refused("a target below 0", &|| loss(&[-100, 0]));
    refused("fewer targets than rows", &|| loss(&[1]));
}

/// One test: the generator is one for the process. For the other instruction sets of the machine it runs itself again.
#[test]
fn rows_are_what_they_stand_for() {
    tch::manual_seed(11);
    add_norm_is_its_definition();
    add_norm_takes_bf16();
    gradients_of_weights_are_asked_for();
    cross_entropy_is_its_definition();
    embedding_is_its_definition();
    what_does_not_fit_is_refused();
    common::on_other_instructions();
}
