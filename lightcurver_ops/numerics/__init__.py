"""Pure numerical functions: arrays in, arrays out."""
