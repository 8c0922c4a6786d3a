"""The graph structured neural network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from gsnn.base.errors import check_option
from gsnn.nn import checks
from gsnn.nn.between import Between
from gsnn.nn.block import Block, NodeAttention, NodeMLP, Recorder, SparseLinear, Tap
from gsnn.nn.config import arguments_of, sparse_layers
from gsnn.nn.draws import KeyedDraws
from gsnn.nn.dropout import Key, new_key
from gsnn.nn.fused import Stack, compilable, compiled_stack, elu_stack
from gsnn.nn.held import Held
from gsnn.nn.init import check_init, initial_scale, initial_weights
from gsnn.nn.layout import build_layout, check_edge_weights
from gsnn.nn.norms import NEED_TWO_SAMPLES, RUNNING, ChannelGroups, build_norms
from gsnn.nn.research import load_research_state_dict
from gsnn.nn.saved import Saved
from gsnn.nn.sparse import EdgeChannelPattern

# From the number of a block to its lin_in or lin_out.
MapBuilder = Callable[[int], SparseLinear]

_AGGREGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda stack: stack.sum(0),
    "mean": lambda stack: stack.mean(0),
    "max": lambda stack: stack.amax(0),
    "last": lambda stack: stack[-1],
    "all": lambda stack: stack,
}


class GSNN(Saved):
    """A neural network whose layers are the prior graph: one scalar per edge, one small function per function node.

    Letters: B samples, I inputs, O outputs, N functions, E edges of every type, C channels per function, L layers.
    Homogeneous order (of edge masks, ``e0`` and edge states): nodes are functions, inputs, outputs; edges are
    function -> function, input -> function, function -> output, then one self-edge per function.

    Every edge starts with the value of its source if that is an input, else 0; L residual blocks follow; with
    ``residual`` the state is divided by sqrt(L); an output is the sum of its incoming edges / sqrt(in-degree). One
    number is drawn from torch's default generator, and each weight follows from it and the weight's edge name, channel
    and block: models that differ by some edges start from the same numbers for all others, up to a scale that depends
    on the degrees.

    The ``layer`` norm lets gradients pass through its statistics and is finite at C = 1 (there its output is its
    shift), where the research code of the method detaches them and gives NaN.

    Args:
        edge_index_dict: (2, E_type) indices local to the types for ``('input', 'to', 'function')``,
            ``('function', 'to', 'function')`` and ``('function', 'to', 'output')``. Parallel edges are kept.
        node_names_dict: Names of the ``'input'``, ``'function'`` and ``'output'`` nodes.
        channels: C, or a sequence of N counts (not with ``node_mlp`` or ``node_attn``).
        layers: L.
        dropout: Probability of dropping a channel value.
        nonlin: Class of an elementwise nonlinearity.
        bias: Whether the sparse maps have biases.
        share_layers: Whether all blocks share lin_in and lin_out (never norms and residual weights).
        add_function_self_edges: Whether each function gets a self-edge.
        norm: One of ``gsnn.nn.NORMS``.
        init: One of ``gsnn.nn.INITIALISERS``.
        verbose: Ignored, because the library never prints; the research code has it.
        edge_channels: Copies of each function -> function edge, each with its own state and weights.
        checkpoint: Whether blocks are recomputed in the backward pass, in training mode only.
        residual: Whether blocks add relu(residual_weight) x their input.
        norm_first: Whether the norm comes before the nonlinearity.
        node_attn: Whether a sigmoid gate per node, from a shared two-layer module, scales the node's channels.
        node_mlp: Whether a shared module mixes the channels of a node.
        node_mlp_hidden: Hidden width of that module.
        edge_weight_dict: Weights (E_type,) per edge type, used by the attention only.
        allow_nan: Whether inputs that are NaN or infinite are let through.
        node_attn_hidden: Hidden width of the attention module.

    Raises:
        DataError: If the graph is not valid; the message names the offenders.
        ValueError: If an option is not valid; the message lists what is.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> names = {"input": ["x"], "function": ["f", "g"], "output": ["y"]}
        >>> edges = {("input", "to", "function"): torch.tensor([[0], [0]]),
        ...          ("function", "to", "function"): torch.tensor([[0], [1]]),
        ...          ("function", "to", "output"): torch.tensor([[1], [0]])}
        >>> model = GSNN(edges, names, channels=4, layers=3)
        >>> model
        GSNN(I=1, N=2, O=1, E=5, channels=4, layers=3, norm='layer', parameters=60)
        >>> model(torch.ones(5, 1)).shape
        torch.Size([5, 1])
    """

    edge_index: Tensor
    channel_node: Tensor
    input_source: Tensor
    output_target: Tensor
    output_degree: Tensor
    tap_layout = "channels_batch"

    def __init__(
        self,
        edge_index_dict: Mapping[Any, Any],
        node_names_dict: Mapping[str, Sequence[str]],
        channels: int | Sequence[int],
        layers: int,
        dropout: float = 0.0,
        nonlin: Callable[[], nn.Module] = nn.ELU,
        bias: bool = True,
        share_layers: bool = True,
        add_function_self_edges: bool = True,
        norm: str = "layer",
        init: str = "degree_normalized",
        verbose: bool = False,
        edge_channels: int = 1,
        checkpoint: bool = False,
        residual: bool = True,
        norm_first: bool = True,
        node_attn: bool = False,
        node_mlp: bool = False,
        node_mlp_hidden: int = 16,
        edge_weight_dict: Mapping[Any, Any] | None = None,
        *,
        allow_nan: bool = False,
        node_attn_hidden: int = 16,
    ) -> None:
        super().__init__()
        # Ordinary tensors whatever the caller's mode or default device: an inference tensor can never be trained.
        with torch.inference_mode(False), torch.device("cpu"):
            layers = checks.positive("layers", layers)
            edge_channels = checks.positive("edge_channels", edge_channels)
            self.layout = build_layout(
                edge_index_dict,
                node_names_dict,
                edge_channels=edge_channels,
                add_function_self_edges=add_function_self_edges,
            )
            self.channels = checks.channel_counts(channels, self.N)
            check_init(init)
            if (node_attn or node_mlp) and not isinstance(self.channels, int):
                raise ValueError("node_mlp and node_attn are shared by the nodes; they need one number of channels")
            self.options = {
                "layers": layers,
                "dropout": checks.probability("dropout", dropout),
                "nonlin": checks.nonlinearity(nonlin),
                "bias": bool(bias),
                "share_layers": bool(share_layers),
                "add_function_self_edges": bool(add_function_self_edges),
                "norm": norm,
                "init": init,
                "verbose": bool(verbose),
                "edge_channels": edge_channels,
                "checkpoint": bool(checkpoint),
                "residual": bool(residual),
                "norm_first": bool(norm_first),
                "node_attn": bool(node_attn),
                "node_mlp": bool(node_mlp),
                "node_mlp_hidden": checks.positive("node_mlp_hidden", node_mlp_hidden),
                "allow_nan": bool(allow_nan),
                "node_attn_hidden": checks.positive("node_attn_hidden", node_attn_hidden),
            }
            self.checkpoint, self.allow_nan = bool(checkpoint), bool(allow_nan)
            weights = None if edge_weight_dict is None else check_edge_weights(edge_weight_dict, self.layout)
            self.register_buffer("edge_weight", weights, persistent=False)
            self._build(weights)
        default = torch.get_default_device()
        if default.type != "cpu":
            self.to(default)

    def _build(self, weights: Tensor | None) -> None:
        layout, options = self.layout, self.options
        counts = torch.as_tensor(self.channels).expand(self.N).contiguous()
        self.groups = ChannelGroups(counts)
        for name, value in (
            ("edge_index", layout.edge_index),
            ("channel_node", self.groups.channel_node),
            ("input_source", layout.edge_index[0, layout.input_edges] - self.N),
            ("output_target", layout.edge_index[1, layout.output_edges] - self.N - self.I),
        ):
            self.register_buffer(name, value.clone(), persistent=False)
        degree = torch.bincount(self.output_target, minlength=self.O)
        self.register_buffer("output_degree", degree.clamp(min=1), persistent=False)
        blocks: list[Block] = []
        # One draw; the weights are a function of it and of names, so models that differ by an edge share all others.
        draws = KeyedDraws(layout, int(torch.randint(2**63 - 1, ())))
        maps = self._maps(counts, draws)
        for number in range(self.L):
            shared = blocks[0] if blocks and options["share_layers"] else None
            lin_in, lin_out = (shared.lin_in, shared.lin_out) if shared else (maps[0](number), maps[1](number))
            edge_norm, norm = build_norms(options["norm"], self.groups, self.E)
            mlp, attn = self._node_modules(int(counts[0]), weights)
            blocks.append(
                Block(
                    lin_in,
                    lin_out,
                    self.groups,
                    edge_norm=edge_norm,
                    norm=norm,
                    nonlin=options["nonlin"],
                    dropout=options["dropout"],
                    norm_first=options["norm_first"],
                    residual=options["residual"],
                    mlp=mlp,
                    node_attn=attn,
                )
            )
        self.blocks = nn.ModuleList(blocks)
        self._stack = Stack(
            blocks[0].lin_in.pattern,
            blocks[0].lin_out.pattern,
            layout.target_functions(),
            layout.source_functions(),
            counts,
            layout.input_edges,
            layout.output_edges,
            self.L,
        )

    def _node_modules(self, width: int, weights: Tensor | None) -> tuple[NodeMLP | None, NodeAttention | None]:
        """New node MLP and attention of one block, if the options have them."""
        options, mlp, attn = self.options, None, None
        if options["node_mlp"]:
            mlp = NodeMLP(width, options["node_mlp_hidden"], options["dropout"], options["nonlin"])
        if options["node_attn"]:
            edges = None
            if weights is not None:
                inner = (self.layout.edge_index < self.N).all(0)
                edges, weights = self.layout.edge_index[:, inner], weights[inner]
            attn = NodeAttention(width, options["node_attn_hidden"], edges, weights)
        return mlp, attn

    def _maps(self, counts: Tensor, draws: KeyedDraws) -> tuple[MapBuilder, MapBuilder]:
        """Builders of lin_in and lin_out of a block, by its number."""
        start = torch.cumsum(counts, 0) - counts

        def builder(edge_function: Tensor, into_channels: bool) -> MapBuilder:
            pattern = EdgeChannelPattern(edge_function, counts)
            edge, channel = pattern.positions()
            node = self.groups.channel_node[channel]
            within = channel - start[node]
            degree = torch.bincount(node, minlength=self.N) // counts
            fans = (degree[node], counts[node]) if into_channels else (counts[node], degree[node])
            scale = initial_scale(self.options["init"], *fans)

            def build(block: int) -> SparseLinear:
                drawn = draws.uniform(edge, within, block, 0 if into_channels else 1)
                weight = initial_weights(self.options["init"], drawn, scale)
                return SparseLinear(pattern, weight, into_channels=into_channels, bias=self.options["bias"])

            return build

        layout = self.layout
        return builder(layout.target_functions(), True), builder(layout.source_functions(), False)

    @classmethod
    def from_graph(cls, graph: Any, channels: int | Sequence[int], layers: int, **options: Any) -> Self:  # noqa: ANN401
        """Build a model from any object with ``edge_index_dict`` and ``node_names_dict``, and weights if it has them.

        Args:
            graph: A ``gsnn.Graph``, a PyG ``HeteroData`` or the like.
            channels: C, or one count per function.
            layers: L.
            **options: The other arguments of the constructor.
        """
        for attribute in ("edge_index_dict", "node_names_dict"):
            if _attribute(graph, attribute) is None:
                raise TypeError(f"graph must have {attribute}, got {type(graph).__name__} without it")
        options.setdefault("edge_weight_dict", _attribute(graph, "edge_weight_dict"))
        return cls(graph.edge_index_dict, graph.node_names_dict, channels, layers, **options)

    def forward(
        self,
        x: Tensor,
        node_mask: Tensor | None = None,
        edge_mask: Tensor | None = None,
        ret_edge_out: bool = False,
        e0: Tensor | None = None,
        node_errs: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Predict the outputs.

        Args:
            x: (B, I) inputs in the dtype of the parameters.
            node_mask: (B, N+I+O) in homogeneous order, (B, N) or (N,): factors of the functions' channels.
            edge_mask: (B, E) or (E,) factors of the edge state, at the start and after each block.
            ret_edge_out: Whether to return the edge state in place of the outputs.
            e0: (B, E) added to the edge state at the start.
            node_errs: L tensors (B, N*C) added before the pre-norm taps.

        Returns:
            (B, O) predictions, or with ``ret_edge_out`` the (B, E) edge state after the last block, / sqrt(L) if
            residual.

        Raises:
            TypeError: If ``x`` is not a tensor of the model's dtype.
            ValueError: If a shape is wrong, an input is not finite, or a batch of one meets a norm over the batch in
                training mode.
        """
        return self._run(x, node_mask, edge_mask, ret_edge_out, e0, node_errs)

    def forward_with_taps(
        self,
        x: Tensor,
        *,
        pre: Tap | None = None,
        post: Tap | None = None,
        detach_parameters: bool = False,
        **forward_kwargs: Any,  # noqa: ANN401 - the arguments of forward
    ) -> Tensor:
        """``forward`` that passes the tensors at the taps to functions; it leaves no state behind.

        Args:
            x: (B, I) inputs.
            pre: Called with (l, z) in block l, z (N*C, B) before the norm; a tensor it returns is used instead.
            post: Called with (l, h) in block l, h (N*C, B) after nonlinearity, MLP and attention; likewise.
            detach_parameters: Whether the weights of the sparse maps take no gradient in this pass.
            **forward_kwargs: The other arguments of ``forward``, and ``held``: a :class:`gsnn.nn.held.Held`.

        Returns:
            What ``forward`` returns.
        """
        return self._run(x, pre=pre, post=post, detach=detach_parameters, **forward_kwargs)

    def _run(
        self,
        x: Tensor,
        node_mask: Tensor | None = None,
        edge_mask: Tensor | None = None,
        ret_edge_out: bool = False,
        e0: Tensor | None = None,
        node_errs: Sequence[Tensor] | None = None,
        *,
        pre: Tap | None = None,
        post: Tap | None = None,
        logits: Tap | None = None,
        detach: bool = False,
        held: Held | None = None,
    ) -> Tensor:
        layout, dtype = self.layout, self.dtype
        x = checks.check_input(x, self.I, dtype)
        if not self.allow_nan:
            if torch.compiler.is_compiling():
                x = checks.finite_in_graph(x, self.handle)
            else:
                checks.check_finite(x.detach(), layout.names["input"])
        batch, n_channels = x.shape[0], self.groups.n_channels
        if batch == 1 and self.training and self.norm in NEED_TWO_SAMPLES:
            raise ValueError(
                f"a batch of one sample has no variance, which norm={self.norm!r} needs in training; use larger "
                "batches (drop_last=True), model.eval(), or another norm"
            )
        if node_mask is not None:
            node_mask = self.groups.expand(checks.function_mask(node_mask, layout, batch).to(dtype))
        if edge_mask is not None:
            edge_mask = checks.check_mask("edge_mask", edge_mask, [(batch, self.E), (self.E,)]).to(dtype)
            edge_mask = edge_mask.unsqueeze(1) if edge_mask.ndim == 1 else edge_mask.t()
        if node_errs is not None:
            if len(node_errs) != self.L:
                raise ValueError(f"node_errs must hold one tensor per layer ({self.L}), got {len(node_errs)}")
            node_errs = [checks.check_mask("node_errs[l]", err, [(batch, n_channels)]).to(dtype) for err in node_errs]
        sent = x.t().index_select(0, self.input_source)
        key = new_key() if any(getattr(block, "drops", 0) for block in self.blocks) else None
        # The kernels set held states in place, unknown to a backward pass.
        special = (node_mask, edge_mask, e0, node_errs, logits, held if torch.is_grad_enabled() else None)
        taps = [tap for tap in (pre, post) if tap is not None]
        if (
            not ret_edge_out
            and all(value is None for value in special)
            and all(type(tap) is Recorder for tap in taps)
            and (blocks := self._between(sent, key))
        ):
            parameters = [v for block in cast("Any", self.blocks) for v in block.parameters_in_order(detach)]
            if compilable(sent):
                out, *tapped = compiled_stack(self._stack, sent, blocks, parameters, taps=bool(taps), held=held)
                for recorder, values in zip((pre, post), tapped, strict=True):
                    if isinstance(recorder, Recorder):
                        recorder.take(*values)
                return self._read_out(out)
            if not taps and held is None and all(between.is_elu for between in blocks):
                return self._read_out(elu_stack(self._stack, sent, parameters))
        state = F.pad(sent, self._padding)
        if e0 is not None:
            state = state + checks.check_mask("e0", e0, [(batch, self.E)]).to(dtype).t()
        if edge_mask is not None:
            state = state * edge_mask
        recomputes = self.recomputes
        for number, block in enumerate(self.blocks):
            step = partial(
                block,
                layer=number,
                node_mask=node_mask,
                node_err=None if node_errs is None else node_errs[number].t(),
                pre=pre,
                post=post,
                logits=logits,
                detach=detach,
                memo={} if recomputes and self.norm in RUNNING else None,
                key=key,
            )
            state = recompute(step, state, use_reentrant=False) if recomputes else step(state)
            state = state if held is None else held.put(number, state)
            if edge_mask is not None:
                state = state * edge_mask
        if ret_edge_out:
            return (state / self.L**0.5 if self.options["residual"] else state).t()
        return self._read_out(state[layout.output_edges])

    def _between(self, sent: Tensor, key: Key | None) -> list[Between] | None:
        """Norm, ELU and dropout of each block, if all may run as one operation on ``sent`` (edges, B), else None."""
        if (
            sent.device.type != "cpu"
            or torch.compiler.is_compiling()
            or self.recomputes
            or len(self.blocks) != self._stack.layers
        ):
            return None
        blocks, number = [], 0 if key is None else int(key)
        for block in self.blocks:
            if not isinstance(block, Block):
                return None
            between = block.between(self._stack.lin_in, self._stack.lin_out, number)
            if between is None:
                return None
            blocks.append(between)
        return blocks

    def _read_out(self, received: Tensor) -> Tensor:
        """State of the edges into outputs after the last block (edges, B) -> predictions (B, O)."""
        sums = received.new_zeros(self.O, received.shape[1]).index_add(0, self.output_target, received)
        scale = self.output_degree.to(sums.dtype).sqrt().unsqueeze(1)
        return (sums / (scale * self.L**0.5 if self.options["residual"] else scale)).t()

    @property
    def products(self) -> int:
        """Products of weights and values in a pass over one sample."""
        maps = (layer for name in ("lin_in", "lin_out") for layer in sparse_layers(self, name))
        return sum(layer.weight.numel() for layer in maps)

    @property
    def recomputes(self) -> bool:
        """Whether a forward pass now would run its blocks again during the backward pass.

        A compiled graph cannot replay the update of running statistics, so it does not recompute norms that keep them.
        """
        compiled = torch.compiler.is_compiling() and self.norm in RUNNING
        return self.checkpoint and self.training and torch.is_grad_enabled() and not compiled

    @property
    def _padding(self) -> tuple[int, int, int, int]:
        place = self.layout.input_edges
        return 0, 0, place.start, self.E - place.stop

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        edge_index_dict: Mapping[Any, Any] | None = None,
        edge_weight_dict: Mapping[Any, Any] | None = None,
        *,
        nonlin: Callable[[], nn.Module] | None = None,
    ) -> Self:
        """Build a model, with newly drawn weights, from what ``config`` returned.

        Args:
            config: What ``config`` returned.
            edge_index_dict: The edges, if the config does not hold them.
            edge_weight_dict: The edge weights, likewise.
            nonlin: The nonlinearity, if it is not a class of ``torch.nn``.

        Raises:
            DataError: If something is missing from the config or unknown in it.
        """
        return cls(**arguments_of(config, edge_index_dict, edge_weight_dict, nonlin))

    def get_node_activations(self, x: Tensor, agg: str = "sum") -> dict[str, Tensor]:
        """The channels of each function at the post tap, in eval mode, aggregated over the layers.

        Args:
            x: (B, I) inputs.
            agg: 'sum', 'mean' or 'max' over the layers, 'last' layer, or 'all' side by side.

        Returns:
            For each function name a tensor (B, C), or (B, L*C) layer by layer for 'all'.

        Raises:
            ValueError: If ``agg`` is unknown; the message lists the options.
        """
        check_option("agg", agg, _AGGREGATES)
        seen: list[Tensor] = []
        with _evaluating(self):
            self.forward_with_taps(x, post=lambda _, h: seen.append(h))
        result = _AGGREGATES[agg](torch.stack(seen))
        parts = result.split(self.groups.sizes.tolist(), dim=-2)
        # 'all' is (L, C, B) per node, the others (C, B).
        return {
            name: part.permute(2, 0, 1).flatten(1) if agg == "all" else part.t()
            for name, part in zip(self.function_nodes, parts, strict=True)
        }

    def get_node_attention(self, x: Tensor) -> dict[str, Tensor]:
        """For each function name the attention logits (L, B), before the sigmoid, in eval mode.

        Raises:
            RuntimeError: If the model was built without ``node_attn``.
        """
        if not self.options["node_attn"]:
            raise RuntimeError("this model has no node attention; build it with node_attn=True")
        seen: list[Tensor] = []
        with _evaluating(self):
            self._run(x, logits=lambda _, logit: seen.append(logit))
        return dict(zip(self.function_nodes, torch.stack(seen, dim=1).unbind(0), strict=True))

    def prune(self, threshold: float) -> int:
        """Drop, in every layer alike, each sparse weight whose largest absolute value over the layers is too small.

        A dropped weight is zero and stays so in later training. The state dict of a pruned model has one more entry
        for each map, ``kept``; a model that loads it is pruned likewise. A pruned model that loads weights which are
        not 0 at its pruned positions is no longer pruned, so that it always becomes the model that was saved.

        Args:
            threshold: A weight is dropped if its largest absolute value over the layers is below this.

        Returns:
            How many positions of lin_in and lin_out were dropped that were not before.

        Raises:
            ValueError: If the threshold is negative or not a number.
        """
        if not (math.isfinite(threshold) and threshold >= 0):
            raise ValueError(f"threshold must be a number of at least 0, got {threshold!r}")
        dropped = 0
        for name in ("lin_in", "lin_out"):
            layers = list(dict.fromkeys(sparse_layers(self, name)))
            with torch.no_grad():
                largest = torch.stack([layer.weight.abs() for layer in layers]).amax(0)
                keep = ~(largest < threshold)
            before = layers[0].kept
            dropped += int((~keep if before is None else before & ~keep).sum())
            if bool(keep.all()):
                continue
            for layer in layers:
                layer.prune(keep)
        return dropped

    def load_research_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint of the method's research code, for the same graph and options.

        Weights are matched by (edge, channel), whatever their order. Hidden widths of node MLP and attention are
        read from the shapes.

        Args:
            state_dict: Keys ``ResBlocks.{l}.lin_in.values``, ``.indices``, ``.bias``, and so on.

        Raises:
            DataError: If an entry is missing, unexpected, mis-shaped or does not match the graph; the message names
                the keys, and the model is left as it was.
        """
        load_research_state_dict(self, state_dict)


def _attribute(graph: object, name: str) -> Any:  # noqa: ANN401 - what the graph holds
    # PyG raises a KeyError for a name that it can build but has no data for.
    try:
        return getattr(graph, name, None)
    except KeyError:
        return None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule has its former mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
