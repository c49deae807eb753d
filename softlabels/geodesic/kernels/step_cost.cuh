// The cost of a step, operation by operation as softlabels/geodesic/metric.py defines it. Compiled with -fmad=false,
// -ftz=false, -prec-div=true and -prec-sqrt=true each operation rounds as on the CPU, and so do the results.
//
// FORM and CHANNELS are macros, so that a kernel holds one form and its loops over channels unroll.
#pragma once

#define ADDITIVE 0  // sum, l1:      length + gap,             gap = |J0| + |J1| + ...
#define ROOT 1      // pythagorean:  sqrt(length + gap),       gap = J0 J0 + J1 J1 + ...
#define RATIO 2     // harmonic:     length e / (keep e + lamb), e = gap + 1e-5, gap = |J0| or sqrt(J0 J0 + J1 J1 + ...)

struct Weights {
    float keep, lamb;
};

// Cost of the step between cells p and q of `scaled`, whose channels lie `stride` apart. Symmetric in p and q. NaN if a
// cell is a wall, for the intensity of a wall is NaN.
template <typename Index>
__device__ inline float step_cost(const float* scaled, Index stride, Index p, Index q, float length, Weights weights)
{
    float gap = 0.0f;
    for (int channel = 0; channel < CHANNELS; ++channel) {
        const float difference = scaled[channel * stride + p] - scaled[channel * stride + q];
        const bool is_absolute = FORM == ADDITIVE || (FORM == RATIO && CHANNELS == 1);
        gap = gap + (is_absolute ? fabsf(difference) : difference * difference);
    }
    if (FORM == ADDITIVE) return length + gap;
    if (FORM == ROOT) return sqrtf(length + gap);
    const float shifted = (CHANNELS > 1 ? sqrtf(gap) : gap) + 1e-5f;
    return length * (shifted / (weights.keep * shifted + weights.lamb));
}
