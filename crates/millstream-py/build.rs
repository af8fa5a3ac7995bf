//! Lets the sources ask which Python they are built for.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
