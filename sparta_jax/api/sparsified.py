"""`sparsify`: a function in, the same function without the work that its zeros make unnecessary out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ..compressed import Compressed
from ..errors import SpartaTypeError, SpartaValueError
from ..packed import Packed
from ..problem import Device
from ..products import default_device
from ..progress import announced
from ..records import Report
from ..specialize import Chooser, implementations
from ..verify import Verification, verify
from .analysis import Analysis
from .call import Call, Signature
from .compress import compress_params, run_compressed
from .entries import check_tables
from .pack import pack, unpack
from .propagation import Propagation, propagation_of
from .report import report
from .tune import gradient_of, tuned

PLATFORMS = ("cpu", "gpu", "cuda", "rocm", "tpu", "METAL")


class Sparsified:
    """A function that computes what `fn` computes on its masked params. Made by `sparsify`.

    Called like `fn`, or with a `Packed` or `Compressed` tree in the place of the params. Outside `jit` it compiles and caches
    like `jax.jit`; inside any transformation it is traced through.
    """

    def __init__(
        self,
        signature: Signature,
        single: bool,
        chooser: Chooser,
        device_platform: str | None,
        unroll: bool | None = None,
    ):
        self._signature, self._single, self._chooser, self._platform = signature, single, chooser, device_platform
        self._unroll = unroll
        functools.update_wrapper(self, signature.fn)
        self._jitted = self._compiled()

    def __call__(self, *args, **kwargs) -> Any:
        self._signature.check_hashable(args, kwargs)
        for tree in args:
            if isinstance(tree, Packed):
                check_tables(tree)
        return self._jitted(*args, **kwargs)

    def __repr__(self) -> str:
        return f"sparsify({getattr(self._signature.fn, '__qualname__', self._signature.fn)!s})"

    def pack(self, *args, also: Sequence[Any] = (), **kwargs) -> Any:
        """The params packed for inference: folded, cast, each weight in the layout that serves these calls best.

        Args:
          *args: the arguments of a call; the data among them may be `ShapeDtypeStruct`s.
          also: further calls that the packed tree must serve: each a tuple of args, or `(args, kwargs)` with a dict last.
          **kwargs: keyword arguments of the call.

        Returns:
          A `Packed` tree, or a tuple of them where `argnums` is a tuple.

        Raises:
          SpartaTypeError: if a param comes without its values, or `also` is no list of calls.
        """
        if not isinstance(also, (list, tuple)) or not all(isinstance(entry, tuple) for entry in also):
            raise SpartaTypeError("`also` is a list of calls, each a tuple of args or a pair (args, kwargs)")
        if any(isinstance(a, Packed) for a in args):
            raise SpartaTypeError("the params are packed already: `pack` needs the params themselves")
        args = tuple(a.unpacked() if isinstance(a, Compressed) else a for a in args)
        calls = [(args, kwargs), *(_args_kwargs(entry) for entry in also)]
        first = self._analysis(args, kwargs)
        others = [self._analysis(a, k, first.is_compacted) for a, k in calls[1:]]
        packed = pack([first, *others], self._chooser, self._device())
        return packed[0] if self._single else packed

    def compress(self, *args, **kwargs) -> Any:
        """The live elements of the params for training: one array per param, nothing folded, index tables static.

        Takes the place of the params in calls, in `jax.grad` and in an optimizer, whose state is then as small. Training it
        equals training the masked params: what an optimizer writes into an element that is dead counts as zero. What an
        optimizer sees says `Compressed`.

        Args:
          *args: the params alone, or the arguments of a call, of which the data may be `ShapeDtypeStruct`s: then a param is
            kept as that call's products read it; without one, as its mask suggests.
          **kwargs: keyword arguments of that call.

        Returns:
          A `Compressed` tree, or a tuple of them where `argnums` is a tuple.

        Raises:
          SpartaTypeError: if a param comes without its values.
        """
        compressed = compress_params(self._signature, self._chooser, self._device(), self._unroll, args, kwargs)
        return compressed[0] if self._single else compressed

    def unpack(self, packed: Packed | Compressed | tuple[Packed | Compressed, ...]) -> Any:
        """The params again, dense and masked, from what `pack` or `compress` made of them; from `compress` always exactly.

        Raises:
          PackedError: names the leaves that were folded, cast or compacted away.
        """
        trees = packed if isinstance(packed, tuple) else (packed,)
        if not all(isinstance(tree, (Packed, Compressed)) for tree in trees):
            raise SpartaTypeError(f"`unpack` takes what `pack` or `compress` returned, not {type(packed).__name__}")
        dense = tuple(tree.unpacked() if isinstance(tree, Compressed) else unpack(tree) for tree in trees)
        return dense if isinstance(packed, tuple) else dense[0]

    def report(self, *args, **kwargs) -> Report:
        """What is done at each product, and why; all arguments may be `ShapeDtypeStruct`s, the params may be packed."""
        return report(self._analysis(args, kwargs), self._device())

    def tune(self, *args, cached: bool = False, gradients: bool | None = None, **kwargs) -> Report:
        """Times the best few kernels, by the model, and dense at every product of this call, and keeps the winners.

        From then on calls of these shapes, `pack` and `report` go by what was measured. Call it before `pack`, which then
        chooses among the layouts that were timed; or with packed params, for the kernels that read them. Programs that were
        compiled around this function before, by an outer `jit`, keep their kernels.

        Args:
          *args: the arguments of a call; all may be `ShapeDtypeStruct`s, as random data is used.
          cached: whether to take from the cache directory (see `calibrate`) what was timed there before, and to keep there
            what is timed now.
          gradients: whether the products of the gradient in the params are timed, too (transposed ones, and those at the
            weights' live elements). None: where the params are compressed, which is for training.
          **kwargs: keyword arguments of the call.

        Returns:
          The report, with measured times.

        Raises:
          SpartaValueError: if the function is made for another platform than this process computes on.
        """
        gradient = functools.partial(gradient_of, self._jitted, self._signature, args, kwargs)
        self._chooser = tuned(self._analysis(args, kwargs), self._device(), cached, gradients, gradient)
        self._jitted = self._compiled()
        return self.report(*args, **kwargs)

    def verify(self, *args, gradients: bool = True, **kwargs) -> Verification:
        """Compares values and gradients with the masked dense program on these arguments, and says where they first part."""
        call = self._signature.split(args, kwargs)
        if call.packed or call.kept:
            raise SpartaTypeError("`verify` compares with the masked program: give it the params themselves, not packed ones")
        analysis = Analysis.of(call, self._chooser, inline_remat=False, unroll=self._unroll)
        with announced("running both programs to compare them"):
            return verify(analysis.stages(), analysis.masked_leaves, call.leaves, call.names, gradients)

    def _compiled(self) -> Callable[..., Any]:
        """The function under `jax.jit`, with the chooser as it is now."""
        signature, chooser, unroll = self._signature, self._chooser, self._unroll

        @functools.wraps(signature.fn)
        def run(*args, **kwargs):
            call = signature.split(args, kwargs)
            analysis = Analysis.of(call, chooser, inline_remat=bool(call.packed), unroll=unroll)
            analysis.check_implementation(self._device())
            if call.packed:
                return analysis.run_packed(call.packed, call.leaves)
            if call.kept:
                return run_compressed(analysis)
            return analysis.run(call.leaves)

        return jax.jit(run, static_argnums=signature.static_argnums or None, static_argnames=signature.static_argnames or None)

    def _analysis(self, args: tuple, kwargs: dict[str, Any], compacting: bool | None = None) -> Analysis:
        self._signature.check_hashable(args, kwargs)
        call: Call = self._signature.split(args, kwargs)
        analysis = Analysis.of(call, self._chooser, compacting=compacting, unroll=self._unroll)
        analysis.check_implementation(self._device())
        return analysis

    def _device(self) -> Device:
        backend = jax.default_backend() if self._platform is None else self._platform
        return default_device("cuda" if backend == "gpu" else backend)


def sparsify(
    fn: Callable[..., Any],
    tesa: Any,
    *,
    argnums: int | tuple[int, ...] = 0,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    implementation: str | None = None,
    platform: str | None = None,
    strict: bool = False,
    unroll: bool | None = None,
) -> Sparsified:
    """Returns `fn` computing the same thing with the sparsity of its params put to use.

    `sparsify(fn, tesa)(params, x)` equals `fn(masked params, x)`, and so do its derivatives.

    Args:
      fn: a function that JAX can trace.
      tesa: what is known of the params: a prefix tree of `TeSA`s, boolean arrays and None (dense), a dict
        `{path regex: TeSA or maker}`, or a callable `(path, leaf) -> TeSA | None`. A tuple of such where `argnums` is one.
      argnums: which positional arguments are the params; all else is data.
      static_argnums, static_argnames: as in `jax.jit`.
      implementation: `"dense"`, `"xla"`, `"native"`, `"mosaic"`: use that one at every sparse product, slower or not; an error
        lists the products that it cannot serve. None: the fastest by the model, dense among them.
      platform: for which layouts and reports are made (`"cpu"`, `"cuda"`, ...); None: the default device's.
      strict: whether even scores of -1e4 or less keep their weight in a softmax row that has a statically live element. Unless
        strict they count as weight 0: the report lists where, and `verify` tells whether it was right.
      unroll: whether a `scan` over sparse stacked weights is written out, so that each layer has its own mask, kernel and
        packed weight; inside a loop all layers share the union of their masks, and packed weights stay dense. None: written
        out unless that is long to compile (more than 64 layers or 4000 equations).

    Raises:
      SpartaValueError: if `implementation` is unknown, `platform` is, or `tesa` and `argnums` differ in length.
    """
    if implementation is not None and implementation not in implementations():
        raise SpartaValueError(f"implementation={implementation!r} is unknown; there are {', '.join(implementations())}")
    if platform is not None and platform not in PLATFORMS:
        raise SpartaValueError(f"platform={platform!r} is unknown; there are {', '.join(PLATFORMS)}")
    signature = _signature(fn, tesa, argnums, static_argnums, static_argnames, strict)
    return Sparsified(signature, isinstance(argnums, int), Chooser(implementation), platform, unroll)


def propagate(
    fn: Callable[..., Any],
    tesa: Any,
    *,
    argnums: int | tuple[int, ...] = 0,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    strict: bool = False,
    unroll: bool | None = None,
) -> Callable[..., Propagation]:
    """The facts alone: returns a function of `fn`'s arguments (arrays or `ShapeDtypeStruct`s) that gives a `Propagation`.

    The arguments are those of `sparsify`. Nothing is run.
    """
    signature = _signature(fn, tesa, argnums, static_argnums, static_argnames, strict)

    def run(*args, **kwargs) -> Propagation:
        return propagation_of(
            Analysis.of(signature.split(args, kwargs), Chooser(None), compacting=False, unroll=unroll), isinstance(argnums, int)
        )

    return run


def _signature(fn, tesa, argnums, static_argnums, static_argnames, strict) -> Signature:
    if not callable(fn):
        raise SpartaTypeError(f"needs a function, got {type(fn).__name__}")
    single = isinstance(argnums, int)
    tesas = (tesa,) if single else tesa
    positions = (argnums,) if single else tuple(argnums)
    if not isinstance(tesas, tuple) or len(tesas) != len(positions):
        raise SpartaValueError(f"argnums={argnums} names {len(positions)} arguments: `tesa` must be a tuple of as many trees")
    nums = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    return Signature(fn, tesas, positions, nums, names, strict)


def _args_kwargs(entry: tuple) -> tuple[tuple, dict[str, Any]]:
    if len(entry) == 2 and isinstance(entry[0], tuple) and isinstance(entry[1], dict):
        return entry[0], entry[1]
    return entry, {}
