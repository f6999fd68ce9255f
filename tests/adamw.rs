//! The optimizer of `native` is AdamW by its definition, with gradients of a parameter, of its copy in bf16, and of both.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod common;

use tapt::native::{self, Rates, Slot};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const RATES: Rates = Rates { beta1: 0.9, beta2: 0.99, epsilon: 1e-6, clip: 1.0, step: 0 };
const LR: f64 = 1e-2;
const DECAY: f64 = 0.1;

/// A parameter, its moments and its copy.
struct Parameter {
    tensors: [Tensor; 3],
    copy: Option<Tensor>,
}

impl Parameter {
    fn new(begin: &Tensor, copied: bool) -> Self {
        let leaf = |kind| begin.detach().to_kind(kind).copy().set_requires_grad(true);
        let tensors = [leaf(Kind::Float), begin.zeros_like(), begin.zeros_like()];
        Self { tensors, copy: copied.then(|| leaf(Kind::BFloat16)) }
    }

    fn slot(&self) -> Slot<'_> {
        let [parameter, exp_avg, exp_avg_sq] = self.tensors.each_ref();
        let copy = self.copy.as_ref();
        Slot { parameter, exp_avg, exp_avg_sq, copy, lr: LR, decay: DECAY }
    }

    /// Gives it gradients, which add up to what comes back, in f64.
    fn give(&self, own: Option<&Tensor>, copied: Option<&Tensor>) -> Tensor {
        let mut all = self.tensors[0].zeros_like().detach().to_kind(Kind::Double);
        for (to, grad) in [(Some(&self.tensors[0]), own), (self.copy.as_ref(), copied)] {
            let (Some(to), Some(grad)) = (to, grad) else { continue };
            let grad = grad.to_kind(to.kind());
            (to * &grad).sum(to.kind()).backward();
            all += grad.to_kind(Kind::Double);
        }
        all
    }
}

/// Loshchilov and Hutter 2019, algorithm 2, in f64; the gradient is clipped already.
fn defined(state: &mut [Tensor; 3], grad: &Tensor, step: i32) {
    let [weight, first, second] = state;
    *first = &*first * RATES.beta1 + grad * (1.0 - RATES.beta1);
    *second = &*second * RATES.beta2 + grad * grad * (1.0 - RATES.beta2);
    let first = &*first / (1.0 - RATES.beta1.powi(step));
    let second = &*second / (1.0 - RATES.beta2.powi(step));
    *weight = &*weight * (1.0 - LR * DECAY) - first / (second.sqrt() + RATES.epsilon) * LR;
}

fn assert_near(what: &str, a: &Tensor, b: &Tensor, share: f64) {
    let difference = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max();
    let (difference, largest) = (difference.double_value(&[]), b.abs().max().double_value(&[]));
    assert!(difference <= share * largest, "{what}: {difference:e} apart, of {largest:e}");
}

/// Ends within a register, within a thread's part, and beyond it.
const SIZES: [i64; 4] = [1, 23, 65_536, 70_001];

fn steps_are_their_definition(clip: f64) {
    for (size, copied) in SIZES.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let parameter = Parameter::new(&Tensor::randn([size], F32), copied);
        let mut state = [0, 1, 2].map(|i| parameter.tensors[i].detach().to_kind(Kind::Double));
        for step in 1..=4 {
            let [own, half] = [0; 2].map(|_| Tensor::randn([size], F32) / size as f64);
            // The copy's alone, the parameter's alone, and both.
            let own = (!copied || step > 1).then_some(&own);
            let grad = parameter.give(own, (step != 2).then_some(&half));
            let wanted = grad.norm();
            let rates = Rates { step: i64::from(step), clip, ..RATES };
            let norm = native::adamw([parameter.slot()].into_iter(), rates, None);
            assert_near("the norm", &norm, &wanted, 1e-5);
            let scale = if clip > 0.0 {
                (clip / (wanted + 1e-6)).clamp_max(1.0)
            } else {
                Tensor::from(1.0)
            };
            defined(&mut state, &(grad * scale), step);
            for (name, (ours, theirs)) in
                ["weight", "first", "second"].iter().zip(parameter.tensors.iter().zip(&state))
            {
                assert_near(&format!("{name} of {size}, step {step}"), ours, theirs, 1e-5);
            }
            let Some(copy) = &parameter.copy else { continue };
            assert!(
                copy.detach() == parameter.tensors[0].detach().to_kind(Kind::BFloat16),
                "the copy is another"
            );
            assert!(!copy.grad().defined() && !parameter.tensors[0].grad().defined());
        }
    }
}

fn what_is_no_number_changes_nothing() {
    let begin = Tensor::randn([40], F32);
    let finite = begin.copy();
    let broken = begin.copy();
    let _ = broken.get(37).fill_(f64::INFINITY);
    let nan = Tensor::from(f32::NAN);
    for (grad, loss) in [(&broken, None), (&finite, Some(&nan))] {
        let parameter = Parameter::new(&begin, true);
        let _ = parameter.give(None, Some(grad));
        let norm = native::adamw([parameter.slot()].into_iter(), Rates { step: 1, ..RATES }, loss);
        assert_eq!(norm.double_value(&[]).is_finite(), loss.is_some());
        assert!(parameter.tensors[0].detach() == begin);
        assert!(parameter.tensors[1].abs().max().double_value(&[]) == 0.0);
        assert!(!parameter.copy.unwrap().grad().defined(), "a gradient stays");
    }
}

/// However many threads, the sums are the same to the last bit.
fn threads_change_nothing() {
    let (begin, grad) = (Tensor::randn([300_000], F32), Tensor::randn([300_000], F32));
    let threads = tch::get_num_threads();
    let made = [1, 3].map(|count| {
        tch::set_num_threads(count);
        let parameter = Parameter::new(&begin, true);
        let _ = parameter.give(Some(&grad), Some(&begin));
        let norm = native::adamw([parameter.slot()].into_iter(), Rates { step: 1, ..RATES }, None);
        (norm.double_value(&[]), parameter.tensors[0].detach())
    });
    tch::set_num_threads(threads);
    assert!(made[0] == made[1]);
}

/// Many gradients of a copy, each too small to show in bf16 beside their sum.
fn sums_of_many_are_of_f32() {
    let parameter = Parameter::new(&Tensor::zeros([8], F32), true);
    let copy = parameter.copy.as_ref().unwrap();
    native::fold(&parameter.tensors[0], copy);
    assert!(!parameter.tensors[0].grad().defined());
    for part in [256.0, 0.5, 0.5, 0.5, 0.5] {
        let _ = parameter.give(None, Some(&Tensor::full([8], part, F32)));
        native::fold(&parameter.tensors[0], copy);
    }
    assert!(parameter.tensors[0].grad() == Tensor::full([8], 258.0, F32));
    assert!(!copy.grad().defined());
}

/// One test: threads are those of the process. For the other instruction sets of the machine it runs itself again.
#[test]
fn a_step_is_what_it_stands_for() {
    tch::manual_seed(7);
    steps_are_their_definition(0.0);
    steps_are_their_definition(0.3);
    what_is_no_number_changes_nothing();
    threads_change_nothing();
    sums_of_many_are_of_f32();
    common::on_other_instructions();
}
