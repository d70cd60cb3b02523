//! `NoticeService`: what a person is told.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::notice_service_server::NoticeService;
use sammati_kernel::{Refusal, Violations};
use sammati_server::error;
use tonic::{Request, Response, Status};

use super::{Core, Rpc};
use crate::notice::{is_language, is_name};

#[tonic::async_trait]
impl NoticeService for Rpc {
    async fn get_notice(&self, request: Request<api::GetNoticeRequest>) -> Result<Response<api::Notice>, Status> {
        self.0
            .notice(&request.into_inner())
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    fn notice(&self, message: &api::GetNoticeRequest) -> Result<api::Notice, Refusal> {
        let mut v = Violations::new();
        if !is_name(&message.name) {
            v.add("name", "must be notices/{id}, as notices/builtin-caremgt");
        }
        if message.version < 0 {
            v.add("version", "1 and up, or 0 for the newest");
        }
        if !message.language.is_empty() && !is_language(&message.language) {
            v.add("language", "BCP 47: en or a language of the Eighth Schedule, as hi");
        }
        v.check()?;
        self.notices.get(&message.name, message.version, &message.language)
    }
}
