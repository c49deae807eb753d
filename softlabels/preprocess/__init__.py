"""Pure preprocessing: resampling, intensities, domain and crop; arrays in, arrays out."""
