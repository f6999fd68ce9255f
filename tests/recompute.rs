//! A layer that is computed again on the way back is the layer, with its gradients, and nothing of it is kept meanwhile.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use tapt::native;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A layer with dropout over a weight that may train, and how often it was called.
fn layer(weight: &Tensor) -> (Rc<Cell<u32>>, impl Fn(&Tensor) -> Tensor + 'static) {
    let (calls, weight) = (Rc::new(Cell::new(0)), weight.shallow_clone());
    let counted = Rc::clone(&calls);
    let layer = move |xs: &Tensor| {
        counted.set(counted.get() + 1);
        native::dropout(&xs.matmul(&weight).tanh(), 0.4)
    };
    (calls, layer)
}

fn leaf(trains: bool) -> Tensor {
    tch::manual_seed(3);
    Tensor::randn([6, 6], F32).set_requires_grad(trains)
}

/// What two layers make of `xs`, the gradients there are, and a draw after them.
fn found(xs: &Tensor, weights: &[Tensor; 2], recomputes: bool) -> Vec<Tensor> {
    tch::manual_seed(7);
    let ys = weights.iter().fold(xs.shallow_clone(), |xs, weight| match recomputes {
        true => native::recomputed(&xs, layer(weight).1),
        false => layer(weight).1(&xs),
    });
    (&ys * Tensor::arange(6, F32)).sum(Kind::Float).backward();
    let mut found = vec![ys.detach(), Tensor::rand([3], F32)];
    for leaf in [xs, &weights[0], &weights[1]].into_iter().filter(|leaf| leaf.requires_grad()) {
        found.push(leaf.grad().copy());
        let _ = leaf.grad().zero_();
    }
    found
}

fn the_same_with_whatever_trains() {
    for trains in
        [[true, true, true], [true, false, false], [false, true, true], [false, false, true]]
    {
        let [xs, weights @ ..] = trains.map(leaf);
        let (kept, again) = (found(&xs, &weights, false), found(&xs, &weights, true));
        assert_eq!(kept.len(), again.len());
        for (kept, again) in kept.iter().zip(&again) {
            assert_eq!(kept, again, "{trains:?}");
        }
    }
}

fn called_again_only_where_there_is_a_way_back() {
    for (trains, often) in [(true, 2), (false, 1)] {
        let (calls, layer) = layer(&leaf(trains));
        let ys = native::recomputed(&leaf(false), layer);
        assert_eq!((ys.requires_grad(), calls.get()), (trains, 1));
        if trains {
            ys.sum(Kind::Float).backward();
        }
        assert_eq!(calls.get(), often);
        assert_eq!(Rc::strong_count(&calls), 1, "the layer is not let go after its use");
    }
}

/// What a layer makes on its way holds a closure here, which would stay with it.
fn nothing_of_a_layer_is_kept() {
    let (calls, weight) = (Rc::new(Cell::new(0)), leaf(true));
    let within = Rc::clone(&calls);
    let ys = native::recomputed(&leaf(true), move |xs| {
        let (_, layer) = layer(&weight);
        let calls = Rc::clone(&within);
        native::recomputed(xs, move |xs| {
            calls.set(calls.get() + 1);
            layer(xs)
        })
    });
    assert_eq!(Rc::strong_count(&calls), 2, "the way through the layer is kept");
    ys.sum(Kind::Float).backward();
    assert_eq!((calls.get(), Rc::strong_count(&calls)), (3, 1));
}

fn let_go_unused() {
    let (calls, layer) = layer(&leaf(true));
    let ys = native::recomputed(&leaf(true), layer);
    assert_eq!(Rc::strong_count(&calls), 2);
    drop(ys);
    assert_eq!(Rc::strong_count(&calls), 1);
}

fn a_layer_that_panics_fails_the_pass() {
    let fails = |at: u32| {
        let (calls, layer) = layer(&leaf(true));
        let pass = || {
            let counted = Rc::clone(&calls);
            let fails = move |xs: &Tensor| {
                let ys = layer(xs);
                assert!(counted.get() < at, "no more");
                ys
            };
            native::recomputed(&leaf(true), fails).sum(Kind::Float).backward();
        };
        assert!(catch_unwind(AssertUnwindSafe(pass)).is_err());
        assert_eq!(calls.get(), at);
    };
    fails(1);
    fails(2);
}

/// One test: the generator is one for the process.
#[test]
fn recomputed_is_the_layer() {
    the_same_with_whatever_trains();
    called_again_only_where_there_is_a_way_back();
    nothing_of_a_layer_is_kept();
    let_go_unused();
    a_layer_that_panics_fails_the_pass();
}
