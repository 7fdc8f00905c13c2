//! A small collector of OpenTelemetry's: takes spans over HTTP and over gRPC, and says what it was told.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::KeyValue,
    common::v1::any_value::Value,
};
use prost::Message;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A span as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty where the trace begins.
    pub(crate) parent: String,
    pub(crate) begun_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// What came.
#[derive(Debug, Default)]
struct Heard {
    spans: Vec<Span>,
    /// Paths and headers of the requests.
    requests: Vec<(String, BTreeMap<String, String>)>,
}

/// It listens for as long as the process lives.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl Collector {
    /// Over HTTP/1.1, as `http/protobuf` has it.
    pub(crate) fn http() -> Self {
        let (listener, collector) = Self::listen();
        let this = collector.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let this = this.clone();
                // A client that goes away in the midst is no failure of the test.
                thread::spawn(move || drop(this.serve_http(&stream.unwrap())));
            }
        });
        collector
    }

    /// Over HTTP/2, as `grpc` has it.
    pub(crate) fn grpc() -> Self {
        let (listener, collector) = Self::listen();
        let this = collector.clone();
        listener.set_nonblocking(true).unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let this = this.clone();
                    tokio::spawn(async move { drop(this.serve_grpc(stream).await) });
                }
            });
        });
        collector
    }

    fn listen() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, Self { address, heard: Arc::default() })
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.heard.lock().unwrap().spans.clone()
    }

    pub(crate) fn requests(&self) -> Vec<(String, BTreeMap<String, String>)> {
        self.heard.lock().unwrap().requests.clone()
    }

    fn take(&self, path: String, headers: BTreeMap<String, String>, body: &[u8]) {
        let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
        let mut heard = self.heard.lock().unwrap();
        heard.requests.push((path, headers));
        heard.spans.extend(spans(request));
    }

    fn serve_http(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            self.take(path, headers, &body);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
            (&*stream).write_all(head.as_bytes())?;
        }
    }

    async fn serve_grpc(&self, stream: tokio::net::TcpStream) -> Result<(), h2::Error> {
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(call) = connection.accept().await {
            let (request, mut respond) = call?;
            let this = self.clone();
            tokio::spawn(async move {
                let (head, mut stream) = request.into_parts();
                let mut body = Vec::new();
                while let Some(part) = stream.data().await {
                    let part = part.unwrap();
                    stream.flow_control().release_capacity(part.len()).unwrap();
                    body.extend_from_slice(&part);
                }
                let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
                let headers = head.headers.iter().map(|(name, it)| (name.to_string(), text(it)));
                // A flag of compression and a length stand before the message.
                this.take(head.uri.path().to_owned(), headers.collect(), &body[5..]);
                let answer = http::Response::builder().header("content-type", "application/grpc");
                let mut out = respond.send_response(answer.body(()).unwrap(), false).unwrap();
                out.send_data(vec![0; 5].into(), false).unwrap();
                let status = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
                out.send_trailers([status].into_iter().collect()).unwrap();
            });
        }
        Ok(())
    }
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = texts(&of_resource.resource.unwrap_or_default().attributes);
        let said = |key: &str| resource.get(key).cloned().unwrap_or_default();
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                service: said("service.name"),
                instance: said("service.instance.id"),
                resource: resource.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                begun_ns: span.start_time_unix_nano,
                ended_ns: span.end_time_unix_nano,
                attributes: texts(&span.attributes),
            });
        }
    }
    spans
}

fn texts(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
