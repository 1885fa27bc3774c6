// The description of a network that every engine reads.
//
// A network is a sequence of layers over one example in CHW layout. Each layer
// is one `Layer` record: what the author chose (operation, kernel, ...) and
// what NetworkPlanner derives from it (shapes, where its parameters and its
// activations lie). The record is stored in the capsule byte for byte, so
// firmware reads it in flash and keeps no copy.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_NETWORK_H_
#define FEWSTEP_NETWORK_H_

#include "fewstep/config.h"
#include "fewstep/status.h"

namespace fewstep {

/// Layer operations. Values are part of the capsule format.
enum class LayerOp : uint8_t {
  kDense = 1,          ///< y = W x + b over the flattened input.
  kConv2d = 2,         ///< Cross-correlation, zero padding.
  kRelu = 3,           ///< max(x, 0)
  kTanh = 4,           ///< tanh(x)
  kMaxPool = 5,        ///< Maximum of each window, floor.
  kGlobalAvgPool = 6,  ///< Mean of each channel.
  kFlatten = 7,        ///< CHW -> vector; moves nothing.
  kGroupNorm = 8,      ///< Per example and group of channels.
  kBatchNorm = 9,      ///< Per channel over the batch at hand.
  kContext = 10,       ///< Appends parameters to a flat input.
};

/// Losses. Values are part of the capsule format.
enum class LossOp : uint8_t {
  kSoftmaxCrossEntropy = 1,  ///< Mean over examples, nats; labels.
  kMeanSquaredError = 2,     ///< Mean over examples and outputs; targets.
};

/// Offset that stands for the caller's input array instead of an activation.
constexpr uint32_t kNetworkInput = 0xffffffffU;

/// Network::adapted of a layer that adaptation leaves alone.
constexpr uint32_t kFrozen = 0xffffffffU;

/// One layer. Written by NetworkPlanner::add; read by everything else.
/// 48 bytes, little-endian, no padding: lib/FORMAT.md.
struct Layer {
  // Chosen by the author.
  LayerOp op;
  uint8_t kernel;   ///< Window edge: conv2d, max_pool; else 0.
  uint8_t stride;   ///< conv2d, max_pool; else 0.
  uint8_t pad;      ///< conv2d: rows and columns of zeros, < kernel; else 0.
  uint16_t groups;  ///< group_norm, divides in_c; context: units; else 0.

  // Derived.
  uint16_t in_c, in_h, in_w;     ///< Input shape.
  uint16_t out_c, out_h, out_w;  ///< Output shape; out_c of dense = units.
  uint8_t in_place;              ///< 1: output shares the input's storage.
  uint8_t in_activation;  ///< LayerOp whose output the input storage holds and
                          ///< whose derivative goes with a write of dL/d(input)
                          ///< (kRelu, kTanh), else 0.
  uint32_t param_offset;  ///< First parameter in theta.
  uint32_t n_weights;     ///< Parameters of the first tensor (gamma).
  uint32_t n_biases;      ///< Parameters of the second tensor (beta).
  uint32_t in_offset;     ///< Activation floats per example before the input,
                          ///< or kNetworkInput.
  uint32_t out_offset;    ///< The same for the output.
  uint32_t aux_offset;    ///< Auxiliary values before this layer's.
  uint16_t n_aux;         ///< Auxiliary values kept from forward to backward:
                          ///< per example (group_norm) or batch (batch_norm).
  uint16_t tensor;        ///< Index of the first tensor.

  FEWSTEP_HD uint32_t n_in() const { return uint32_t{in_c} * in_h * in_w; }
  FEWSTEP_HD uint32_t n_out() const { return uint32_t{out_c} * out_h * out_w; }
  FEWSTEP_HD constexpr uint32_t n_params() const {
    return n_weights + n_biases;
  }
};
static_assert(sizeof(Layer) == 48, "Layer is a file format");

/// A planned network. `layers` is not owned.
struct Network {
  const Layer* layers;
  uint16_t n_layers;
  LossOp loss;
  uint8_t out_activation;  ///< As Layer::in_activation, for the last output.
  uint8_t transductive;    ///< 1: outputs depend on the batch (batch_norm).
  uint8_t masked;          ///< 1: of layers that adapt not all parameters do;
                           ///< sparse_mask.h has the mask.
  uint16_t first_param_layer;  ///< Below it no gradient flows.
  uint16_t in_c, in_h, in_w;   ///< Shape of one example.
  uint16_t n_tensors;          ///< Parameter tensors.
  uint32_t n_in;               ///< Values of one example.
  uint32_t n_out;              ///< Outputs of one example.
  uint32_t n_params;           ///< P, length of theta.
  uint32_t n_act;              ///< Activation values per example.
  uint32_t n_aux_example;      ///< Auxiliary values per example.
  uint32_t n_aux_batch;        ///< Auxiliary values per batch.
  uint32_t out_offset;         ///< Activation offset of the outputs.
  uint32_t n_adapted;          ///< Parameters that adapt, of n_params.
  /// What adapts (adapted.h, sparse_mask.h): per layer, its first parameter's
  /// index among those that adapt, or kFrozen. Null: everything does. Not
  /// owned.
  const uint32_t* adapted;

  /// Whether layer i has parameters that adapt.
  FEWSTEP_HD constexpr bool adapts(uint32_t i) const {
    return layers[i].n_params() != 0 &&
           (adapted == nullptr || adapted[i] != kFrozen);
  }
  /// Tensors that adapt, of n_tensors.
  FEWSTEP_HD constexpr uint16_t n_adapted_tensors() const {
    if (adapted == nullptr) return n_tensors;
    uint16_t n = 0;
    for (uint32_t i = 0; i < n_layers; ++i) {
      if (adapted[i] != kFrozen) n = static_cast<uint16_t>(n + 2);
    }
    return n;
  }
  /// Whether nothing frozen lies between parameters that adapt.
  FEWSTEP_HD constexpr bool adapts_in_one_piece() const {
    if (adapted == nullptr) return true;
    if (masked != 0) return false;
    uint32_t n_pieces = 0;
    bool inside = false;
    for (uint32_t i = 0; i < n_layers; ++i) {
      if (layers[i].n_params() == 0) continue;
      if (!inside && adapted[i] != kFrozen) ++n_pieces;
      inside = adapted[i] != kFrozen;
    }
    return n_pieces == 1;
  }
};

/// Why NetworkPlanner refused. Firmware links these numbers only; to_string()
/// has the sentences.
enum class PlanError : uint8_t {
  kNone,
  kNullPointer,
  kNoInput,
  kLayers,
  kUnknownLayer,
  kUnits,
  kKernel,
  kStride,
  kPoolStride,
  kPad,
  kKernelTooBig,
  kOutputTooBig,
  kGroups,
  kChannels,
  kInputs,
  kOutputs,
  kFlatten,
  kNotFlat,
  kParameters,
  kActivations,
  kNoParameters,
  kUnknownLoss,
  kClasses,
};

/// What an error means, for messages: "the kernel exceeds its input"; never
/// null, empty for kNone.
const char* to_string(PlanError error);

/// Derives shapes, offsets and the activation plan, one layer after another.
///
/// Activations (relu, tanh) run in the storage of their input: their
/// derivative follows from their output, and the layer above applies it when
/// it overwrites that storage with dL/d(input). Flatten moves nothing. Every
/// other layer gets storage of its own.
class NetworkPlanner {
 public:
  /// Starts `network` over examples of shape [c][h][w]. Until finish() it is
  /// under construction and the planner's alone.
  NetworkPlanner(uint16_t c, uint16_t h, uint16_t w, Network* network);

  /// Fills the derived fields of `layer` from its chosen ones (op, kernel,
  /// stride, pad, groups, and out_c for dense and conv2d). Context layers are
  /// known to programs that link has_context() only.
  ///
  /// @retval kOk           `layer` is complete.
  /// @retval kBadArgument  A field is out of range for the input at hand, or a
  ///                       size overflows; error() says which. `layer` and the
  ///                       planner are unchanged.
  Status add(Layer* layer);

  /// Adds a layer that add() completed elsewhere.
  ///
  /// @retval kOk           Every byte is what add() would make of it.
  /// @retval kBadArgument  It is not; this planner is of no more use.
  Status add_stored(const Layer& layer);

  /// Completes the network of the layers added so far, which the caller keeps
  /// at `layers`.
  ///
  /// @retval kOk           The network is complete.
  /// @retval kBadArgument  No layer, no parameter, or one output under
  ///                       cross-entropy; error() says which.
  Status finish(const Layer* layers, LossOp loss);

  /// What was wrong with the last refused call; static, never null.
  const char* error() const { return to_string(error_); }

 private:
  PlanError derive(const Layer& chosen, Layer* layer);
  template <bool with_context>
  PlanError derive_layer(const Layer& chosen, Layer* layer);

  PlanError error_ = PlanError::kNone;
  uint16_t shape_[3];  // Of the current output.
  Network& network_;
};

/// Name used by recipes and reports, e.g. "conv2d"; never null.
const char* to_string(LayerOp op);
const char* to_string(LossOp op);

/// Whether a layer of `network` is a context. Links the planner that knows of
/// them, so that firmware without does not pay for it.
bool has_context(const Network& network);

/// Multiply-adds of one gradient of one example on a device: forward + weight
/// gradient (of layers that adapt; of a mask, of gradient_rows()) + input
/// gradient (above the first of those), dense and conv2d layers, padded taps
/// not counted.
uint64_t multiply_adds_per_example(const Network& network);

}  // namespace fewstep

#endif  // FEWSTEP_NETWORK_H_
