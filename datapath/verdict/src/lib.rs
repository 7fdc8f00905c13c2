//! The one implementation of a verdict: policy lookup and precedence, conntrack transition.
