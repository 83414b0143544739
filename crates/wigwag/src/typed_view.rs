//! A payload that is a value: its bytes seen as a `T`, by zerocopy, without a copy.

use std::time::{Duration, Instant};

use crate::contract::Payload;
use crate::error::Result;
use crate::sys::clock;

/// What lies in a wrapper's bytes, as a `T`; with `mut` before it to be changed, too.
macro_rules! view_as {
    (mut $wrapper:ty, $bytes:ident) => {
        view_as!($wrapper, $bytes);

        impl<T: $crate::contract::Payload> ::std::ops::DerefMut for $wrapper {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut T {
                $crate::typed_view::view_mut(&mut self.$bytes)
            }
        }
    };
    ($wrapper:ty, $bytes:ident) => {
        impl<T: $crate::contract::Payload> ::std::ops::Deref for $wrapper {
            type Target = T;

            #[inline(always)]
            fn deref(&self) -> &T {
                $crate::typed_view::view(&self.$bytes)
            }
        }

        impl<T: $crate::contract::Payload + ::std::fmt::Debug> ::std::fmt::Debug for $wrapper {
            fn fmt(&self, out: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                (**self).fmt(out)
            }
        }
    };
}

pub(crate) use view_as;

/// Payloads begin at multiples of 16, which is enough for every type that compiles here, and have the type's size,
/// checked where the wrapper was made.
#[inline(always)]
pub(crate) fn view<T: Payload>(bytes: &[u8]) -> &T {
    T::ref_from_bytes(bytes).unwrap_or_else(|_| unreachable!("checked where the wrapper was made"))
}

#[inline(always)]
pub(crate) fn view_mut<T: Payload>(bytes: &mut [u8]) -> &mut T {
    T::mut_from_bytes(bytes).unwrap_or_else(|_| unreachable!("checked where the wrapper was made"))
}

/// The first thing within `timeout` that has the type; what has not is dealt with where it is asked.
pub(crate) fn first_within<B, T>(
    timeout: Duration,
    mut look: impl FnMut(Duration) -> Result<Option<B>>,
    typed: impl Fn(B) -> Option<T>,
) -> Result<Option<T>> {
    let deadline = clock::deadline_after(timeout);
    loop {
        let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
        let Some(found) = look(left)? else { return Ok(None) };
        if let Some(found) = typed(found) {
            return Ok(Some(found));
        }
    }
}

/// Every typed entry point refuses a type that no payload can be when it is compiled; the same text with one that can
/// be compiles.
#[cfg(doctest)]
macro_rules! d8_is_refused_when_it_is_compiled {
    ($entry:ident, $text:literal) => {
        d8_is_refused_when_it_is_compiled!(
            $entry,
            $text,
            "use wigwag::zerocopy::*;\n\
             #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]\n\
             #[zerocopy(crate = \"wigwag::zerocopy\")]\n"
        );
    };
    ($entry:ident, $text:literal, $derives:literal) => {
        #[doc = concat!("```no_run\n", $derives, "#[repr(C, align(16))] struct Wide([u8; 32]);\n\
            impl wigwag::Payload for Wide { const NAME: &'static str = \"wide\"; }\n", $text, "\n# Ok::<(), \
                wigwag::Error>(())\n```")]
        #[doc = concat!("```compile_fail\n", $derives, "#[repr(C, align(32))] struct Wide([u8; 32]);\n\
            impl wigwag::Payload for Wide { const NAME: &'static str = \"wide\"; }\n", $text, "\n# Ok::<(), \
                wigwag::Error>(())\n```")]
        struct $entry;
    };
}

#[cfg(doctest)]
mod d8 {
    d8_is_refused_when_it_is_compiled!(Contract, "wigwag::Contract::of::<Wide>();");
    d8_is_refused_when_it_is_compiled!(Connect, "wigwag::TypedClient::<Wide>::connect(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(ConnectTyped, "wigwag::Client::builder().connect_typed::<Wide>(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(Bind, "wigwag::TypedServer::<Wide>::bind(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(BindTyped, "wigwag::Server::builder().bind_typed::<Wide>(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(
        Reply,
        "let client = wigwag::Client::connect(\"wide\")?; wigwag::TypedReply::<Wide>::new(client.call(&[0; 32])?)?;"
    );
    d8_is_refused_when_it_is_compiled!(
        CallTimeout,
        "fn call(client: &wigwag::TypedClient<Wide>) { let _ = client.call_timeout(&Wide([0; 32]), \
         std::time::Duration::ZERO); }\n\
         std::hint::black_box(call as fn(&wigwag::TypedClient<Wide>));"
    );
    d8_is_refused_when_it_is_compiled!(Send, "wigwag::TypedSender::<Wide>::connect(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(SendTyped, "wigwag::Sender::builder().connect_typed::<Wide>(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(Receive, "wigwag::TypedReceiver::<Wide>::bind(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(ReceiveTyped, "wigwag::Receiver::builder().bind_typed::<Wide>(\"wide\")?;");
    d8_is_refused_when_it_is_compiled!(
        MessageLoan,
        "fn draft(sender: &mut wigwag::TypedSender<Wide>) { let _ = sender.loan(); }\n\
         std::hint::black_box(draft as fn(&mut wigwag::TypedSender<Wide>));"
    );
    d8_is_refused_when_it_is_compiled!(
        Delivery,
        "fn next(receiver: &wigwag::TypedReceiver<Wide>) { let _ = receiver.try_recv(); }\n\
         std::hint::black_box(next as fn(&wigwag::TypedReceiver<Wide>));"
    );
    d8_is_refused_when_it_is_compiled!(
        Serve,
        "fn serve(server: &mut wigwag::TypedServer<Wide>) { let _ = server.serve(|_| ()); }\n\
         std::hint::black_box(serve as fn(&mut wigwag::TypedServer<Wide>));"
    );
}
