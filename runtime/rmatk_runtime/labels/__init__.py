"""Labels edited and watched in a bundle, embedded by the bundle's own text encoder."""
