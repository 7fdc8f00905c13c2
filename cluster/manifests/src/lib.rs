//! Kubernetes manifests parsed once into weft-types, with errors that name file, document and field.
