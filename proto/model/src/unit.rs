//! Durations, sizes and percentages as manifests write them: always with their unit.
