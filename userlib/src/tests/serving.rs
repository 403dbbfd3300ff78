// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! How a session is served: the request for a thread that never rests, at the beginning and later.

use std::sync::Arc;

use crate::mock::answers::SERVER;
use crate::mock::Machine;
use crate::Session;

#[test]
fn a_session_becomes_busy_and_is_so_no_more() {
    let (session, kernel) = Machine::default().session();
    assert!(!kernel.state().busy);
    assert_eq!(session.set_busy(true), Ok(Some(SERVER)));
    assert!(kernel.state().busy);
    assert_eq!(session.set_busy(false), Ok(None));
    assert!(!kernel.state().busy);
}

#[test]
fn a_session_begins_busy() {
    let kernel = Machine::default().mock();
    let session = Session::builder()
        .busy(true)
        .open_on(Box::new(Arc::clone(&kernel)))
        .unwrap();
    assert!(kernel.state().busy);
    drop(session);
}
