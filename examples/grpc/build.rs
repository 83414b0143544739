//! Declares the service to tonic, whose traits and stubs are generated into the build directory.

use tonic_build::manual::{Builder, Method, Service};

fn method(name: &str, route: &str, input: &str, output: &str) -> tonic_build::manual::MethodBuilder {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("crate::messages::{input}"))
        .output_type(format!("crate::messages::{output}"))
        .codec_path("tonic_prost::ProstCodec")
}

fn main() {
    let service = Service::builder()
        .name("Work")
        .package("wigwag.example")
        .comment("One method of each kind.")
        .method(method("invert", "Invert", "Bytes", "Bytes").comment("Unary: every byte inverted.").build())
        .method(
            method("count", "Count", "Span", "Number")
                .server_streaming()
                .comment("Counts from one number to another.")
                .build(),
        )
        .method(
            method("sum", "Sum", "Number", "Number").client_streaming().comment("The sum of all numbers sent.").build(),
        )
        .method(
            method("echo", "Echo", "Bytes", "Bytes")
                .client_streaming()
                .server_streaming()
                .comment("Each message back as it comes.")
                .build(),
        )
        .build();
    Builder::new().compile(&[service]);
}
