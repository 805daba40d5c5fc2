"""The commands a model script may hold: data, not code.

Source: the 714 public model scripts of Hailo's Model Zoo (v2.10, v2.18 and v5.2.0) and the SDK's published
tutorials. Where these do not settle something the table says `None`, and nothing is checked or guessed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Stage = Literal["modification", "optimization", "compilation", "any"]


class Signature(NamedTuple):
    """What is known of one command."""

    stage: Stage
    """`modification` and `optimization` act in `optimize`, `compilation` in `compile`, `any` in both."""
    creates: bool | None
    """True: makes layers (or contexts, groups) and needs a left-hand side to name them. False: takes none."""
    layers: slice | None
    """Which positional arguments name layers."""
    keywords: frozenset[str] | None = None
    """Every keyword argument it takes; None: not checked."""


NO_LAYERS = slice(0, 0)
ALL = slice(None)
FIRST = slice(1)
FIRST_TWO = slice(2)
ALL_BUT_FIRST = slice(1, None)
ALL_BUT_LAST = slice(-1)
FROM_THIRD = slice(2, None)

LAYER_KEYWORDS = ("layers", "loss_layer_names")
"""Keyword arguments whose values name layers."""

NOT_LAYERS = ("context", "network_group")
"""Commands whose left-hand side names something else than a layer."""


EMULATED_DETECTORS = ("yolov8",)
"""Values of `meta_arch` whose boxes the emulator decodes."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UTILIZATION = """
    max_utilization max_control_utilization max_compute_utilization max_memory_utilization
"""
_ALLOCATOR = _words("""
    auto_split_const_inputs automatic_ddr automatic_ddr_l3_cuts_threshold automatic_l4_portals
    automatic_l4_portals_l3_cuts_threshold automatic_reshapes automatic_resize_reshapes calculate_power
    cluster_timeout defuse_by_validator disable_row_per_cut enable_auto_spatial_collapse
    enable_auto_spatial_reshapes enable_automatic_features_chunks enable_automatic_join
    enable_automatic_offdevice_outputs enable_axis_upsize enable_collapser enable_defuse_with_slack enable_fixer
    enable_hw_padding enable_lanes enable_lcu_ecc enable_muxer enable_partial_row_buffers
    enable_post_split_average_buffers enable_single_buffer_for_feasibility enable_swapper force_map_on_mirror
    fps_ratio_impact input_layer_max_successors max_auto_defuse max_auto_merge_depth merge_max_layer_utilization
    merge_max_memory_utilization merge_min_layer_utilization optimize_pipeline_stoppage ppu_reshape_slack
    run_format_fixer seed spatial_defuse_legacy splitter_timeout strategy timeout validate width_splitter_defuse
""")
_CONTEXT_SWITCH = _words(f"""
    auto_partition_to_buckets berkitizer_bucket_size berkitizer_min_size goal_network_compute_utilization
    goal_network_control_utilization goal_network_memory_utilization goal_network_weights_utilization mode
    share_buckets_partition slotter_chances toposort_mode {_UTILIZATION}
""")
_OPTIMIZATION_CONFIG = _words("""
    analyze_mode auto_16bit_weights_ratio auto_4bit_weights_ratio batch_norm_checker batch_size calibset_size
    dataset_size layers multiproc_policy output_16bit output_encoding_vector policy rank
""")

COMMANDS: dict[str, Signature] = {
    # Change the network. Each makes its layer directly behind the input, so the last one stands first.
    "normalization": Signature("modification", True, FROM_THIRD, _words("")),
    "input_conversion": Signature("modification", True, ALL_BUT_LAST, _words("emulator_support")),
    "resize": Signature("modification", True, ALL, _words("resize_shapes resize_method engine")),
    "logits_layer": Signature("modification", True, FIRST),
    "change_output_activation": Signature("modification", False, ALL_BUT_LAST, _words("")),
    "nms_postprocess": Signature("modification", False, NO_LAYERS),
    "set_seed": Signature("any", False, NO_LAYERS, _words("seed")),
    # Steer quantization.
    "model_optimization_flavor": Signature(
        "optimization", False, NO_LAYERS, _words("optimization_level compression_level batch_size")
    ),
    "model_optimization_config": Signature("optimization", False, NO_LAYERS, _OPTIMIZATION_CONFIG),
    "pre_quantization_optimization": Signature("optimization", False, NO_LAYERS),
    "post_quantization_optimization": Signature("optimization", False, NO_LAYERS),
    "quantization_param": Signature(
        "optimization",
        False,
        FIRST,
        _words("""
            precision_mode bias_mode activation_fit force_range_in force_range_out force_range_index
            max_elementwise_feed_repeat weight_group_size
        """),
    ),
    # Steer the compiler as a whole.
    "allocator_param": Signature("compilation", False, NO_LAYERS, _ALLOCATOR),
    "buffer_calc_param": Signature("compilation", False, NO_LAYERS),
    "context_switch_param": Signature("compilation", False, NO_LAYERS, _CONTEXT_SWITCH),
    "hef_param": Signature("compilation", False, NO_LAYERS),
    "performance_param": Signature(
        "compilation",
        False,
        NO_LAYERS,
        _words("compiler_optimization_level optimization_level fps optimize_for_batch optimize_for_power"),
    ),
    "platform_param": Signature("compilation", False, NO_LAYERS, _words("hef_version hints targets")),
    "resources_param": Signature(
        "compilation",
        False,
        NO_LAYERS,
        _words(f"""
            max_apu_utilization max_compute_16bit_utilization max_input_aligner_utilization strategy {_UTILIZATION}
        """),
    ),
    "network_group": Signature("compilation", True, NO_LAYERS),
    # Steer the compiler layer by layer.
    "bucket": Signature("compilation", None, None),
    "buffers": Signature("compilation", False, FIRST_TWO),
    "compilation_param": Signature("compilation", False, FIRST),
    "concat": Signature("compilation", True, ALL),
    "context": Signature("compilation", True, ALL),
    "ddr": Signature("compilation", None, None),
    "defuse": Signature("compilation", True, FIRST),
    "defuse_block": Signature("compilation", None, None),
    "format_conversion": Signature("compilation", True, ALL_BUT_LAST),
    "join": Signature("compilation", None, None),
    "l4_portal": Signature("compilation", None, None),
    "merge": Signature("compilation", None, None),
    "mux_demux": Signature("compilation", None, None),
    "output_layer": Signature("compilation", None, None),
    "place": Signature("compilation", False, ALL_BUT_FIRST),
    "remove_node": Signature("compilation", None, None),
    "shape_splitter": Signature("compilation", True, ALL_BUT_FIRST),
    "shortcut": Signature("compilation", True, ALL),
    "spatial_reshape_flow_params": Signature("compilation", None, None),
    "transpose_concat": Signature("compilation", True, ALL),
}
