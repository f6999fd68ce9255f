// Attention over sequences that lie end to end, on the CPU.
#include "face.h"

namespace {

template <class T>
const Attention<T> &kernels() {
  return of_type<T>(fitting(tapt_attention_base, tapt_attention_avx2, tapt_attention_avx512));
}

// Sequences end to end: where each begins.
struct Sequences {
  std::vector<int64_t> lengths, starts;

  explicit Sequences(std::vector<int64_t> of) : lengths(std::move(of)) {
    int64_t next = 0;
    for (int64_t length : lengths) {
      TORCH_CHECK(length >= 0, "a sequence of ", length, " tokens");
      starts.push_back(next), next += length;
    }
  }

  int64_t tokens() const { return lengths.empty() ? 0 : starts.back() + lengths.back(); }

  int64_t longest() const { return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end()); }
};

// The heads of a batch: what each works on.
struct Heads {
  Sequences keys, queries;
  int64_t heads;
  Dropout dropout;

  // Runs `work` on each head of each sequence, of which `whole` has where the first begins. Heads are the outer loop: they
  // are alike, sequences are not.
  template <class T>
  void each(void (*work)(const Head<T> *, float *), bool back, Head<T> whole) const {
    const int64_t count = keys.lengths.size(), hidden = whole.hidden;
    whole.size = hidden / heads, whole.dropout = dropout;
    const int64_t scratch = kernels<T>().scratch(keys.longest(), whole.size, back);
    at::parallel_for(0, heads * count, 1, [&](int64_t first, int64_t last) {
      const Tensor floats = at::empty({scratch}, at::kFloat);
      for (int64_t i = first; i < last; i++) {
        const int64_t h = i / count, s = i % count;
        const int64_t skip = keys.starts[s] * hidden + h * whole.size, own = queries.starts[s] * hidden + h * whole.size;
        Head<T> head = whole;
        head.time = keys.lengths[s], head.queries = queries.lengths[s];
        head.row = h * queries.tokens() + queries.starts[s], head.logsum += head.row;
        head.q += own, head.k += skip, head.v += skip, head.out += own;
        if (back) head.dout += own, head.dq += own, head.dk += skip, head.dv += skip;
        work(&head, floats.mutable_data_ptr<float>());
      }
    });
  }

  template <class T>
  void forward(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &out, const Tensor &logsum) const {
    Head<T> head{};
    head.hidden = q.size(1);
    head.q = in<T>(q), head.k = in<T>(k), head.v = in<T>(v);
    head.out = out_of<T>(out), head.logsum = out_of<float>(logsum);
    each(kernels<T>().forward, false, head);
  }

  template <class T>
  void backward(const variable_list &kept, const Tensor &dout, const variable_list &grads) const {
    Head<T> head{};
    head.hidden = dout.size(1);
    head.q = in<T>(kept[0]), head.k = in<T>(kept[1]), head.v = in<T>(kept[2]), head.dout = in<T>(dout);
    head.out = const_cast<T *>(in<T>(kept[3])), head.logsum = const_cast<float *>(in<float>(kept[4]));
    head.dq = out_of<T>(grads[0]), head.dk = out_of<T>(grads[1]), head.dv = out_of<T>(grads[2]);
    each(kernels<T>().back, true, head);
  }
};

void check_shapes(const Tensor &q, const Tensor &k, const Tensor &v, const Heads &all) {
  for (const Tensor *xs : {&q, &k, &v}) {
    check(*xs);
    TORCH_CHECK(xs->dim() == 2 && xs->size(1) == q.size(1), "q, k and v are [tokens, hidden], all three");
    TORCH_CHECK(xs->scalar_type() == q.scalar_type(), "q, k and v hold numbers of one type");
  }
  TORCH_CHECK(k.size(0) == v.size(0), "keys and values are [tokens, hidden], both");
  TORCH_CHECK(all.heads > 0 && q.size(1) % all.heads == 0, q.size(1), " columns are not for ", all.heads, " heads");
  TORCH_CHECK(all.keys.lengths.size() == all.queries.lengths.size(), "queries are not of the sequences of the keys");
  TORCH_CHECK(all.keys.tokens() == k.size(0), "lengths of ", all.keys.tokens(), " tokens, not ", k.size(0));
  TORCH_CHECK(all.queries.tokens() == q.size(0), "lengths of ", all.queries.tokens(), " queries, not ", q.size(0));
  for (size_t i = 0; i < all.keys.lengths.size(); i++)
    TORCH_CHECK(all.keys.lengths[i] > 0 || all.queries.lengths[i] == 0, "queries of a sequence without keys");
}

// Softmax attention within each sequence of a batch laid end to end: q and the result are [queries, hidden], k and v
// [tokens, hidden]. Scores are never stored: the way back computes them again (Dao et al. 2022).
struct Attend : torch::autograd::Function<Attend> {
  static Tensor forward(AutogradContext *ctx, const Tensor &q_, const Tensor &k_, const Tensor &v_,
                        std::vector<int64_t> lengths, std::vector<int64_t> queries, int64_t heads, double p) {
    const Heads all{Sequences(lengths), Sequences(queries), heads, dropout_of(p)};
    check_shapes(q_, k_, v_, all);
    const Tensor q = q_.contiguous(), k = k_.contiguous(), v = v_.contiguous();
    const Tensor out = at::empty_like(q), logsum = at::empty({heads, q.size(0)}, q.options().dtype(at::kFloat));
    by_type(q, [&](auto number) { all.forward<decltype(number)>(q, k, v, out, logsum); });
    ctx->save_for_backward({q, k, v, out, logsum});
    ctx->saved_data["lengths"] = lengths;
    ctx->saved_data["queries"] = queries;
    save(ctx, all.dropout);
    return out;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const variable_list kept = ctx->get_saved_variables();
    const auto sequences = [&](const char *key) { return Sequences(ctx->saved_data[key].toIntVector()); };
    const Heads all{sequences("lengths"), sequences("queries"), kept[4].size(0), saved(ctx)};
    const Tensor dout = grads[0].contiguous();
    variable_list own = {at::empty_like(kept[0]), at::empty_like(kept[1]), at::empty_like(kept[2])};
    by_type(dout, [&](auto number) { all.backward<decltype(number)>(kept, dout, own); });
    own.resize(7);
    return own;
  }
};

}  // namespace

extern "C" char *tapt_attention(Tensor **out, const Tensor *q, const Tensor *k, const Tensor *v, const int64_t *lengths,
                     const int64_t *queries, size_t count, int64_t heads, double p) {
  return guarded([&] {
    const std::vector<int64_t> of_keys(lengths, lengths + count), of_queries(queries, queries + count);
    *out = new Tensor(Attend::apply(*q, *k, *v, of_keys, of_queries, heads, p));
  });
}
