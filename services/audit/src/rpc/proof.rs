//! `ProofService`: checkpoints and proofs, for anybody.

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_kernel::{Reason, Refusal};
use sammati_log::proof::format_path;
use sammati_server::error;
use tonic::{Request, Response, Status};

use super::Rpc;
use crate::rows::CheckpointRow;
use crate::wire::{self, Which};

#[tonic::async_trait]
impl ProofService for Rpc {
    async fn get_checkpoint(
        &self,
        request: Request<audit::GetCheckpointRequest>,
    ) -> Result<Response<audit::Checkpoint>, Status> {
        self.checkpoint(request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_proof(
        &self,
        request: Request<audit::GetProofRequest>,
    ) -> Result<Response<audit::InclusionProof>, Status> {
        self.inclusion(request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_consistency_proof(
        &self,
        request: Request<audit::GetConsistencyProofRequest>,
    ) -> Result<Response<audit::ConsistencyProof>, Status> {
        self.consistency(request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Rpc {
    async fn checkpoint(&self, request: audit::GetCheckpointRequest) -> Result<audit::Checkpoint, Refusal> {
        let size = wire::checkpoint_size(&request)?;
        self.is_ours(&request.log)?;
        let row = if size == 0 {
            self.log.newest().await?
        } else {
            self.signed_at(size).await?
        };
        Ok(wire::checkpoint(&self.log.name(), row))
    }

    async fn inclusion(&self, request: audit::GetProofRequest) -> Result<audit::InclusionProof, Refusal> {
        let (which, size) = wire::which_leaf(&request)?;
        if !request.log.is_empty() {
            self.is_ours(&request.log)?;
        }
        let index = match which {
            Which::Index(index) => index,
            Which::Event(id, wait) => {
                self.log
                    .leaf_of(&id, wait, |_| true)
                    .await?
                    .ok_or(Reason::NotAvailable)?
                    .index
            }
        };
        let row = if size == 0 {
            self.log.covering(index.saturating_add(1)).await?
        } else {
            self.signed_at(size).await?
        };
        let proof = self.log.prove_inclusion(index, row.clone()).await?;
        Ok(audit::InclusionProof {
            log: self.log.name(),
            index: wire::number(index),
            tree_size: wire::number(row.size),
            leaf: proof.leaf,
            proof: proof.bundle.to_string(),
        })
    }

    async fn consistency(
        &self,
        request: audit::GetConsistencyProofRequest,
    ) -> Result<audit::ConsistencyProof, Refusal> {
        let (first, second) = wire::sizes(&request)?;
        self.is_ours(&request.log)?;
        let row = if second == 0 {
            self.log.covering(first).await?
        } else {
            self.signed_at(second).await?
        };
        let path = self.log.prove_consistency(first, &row).await?;
        Ok(audit::ConsistencyProof {
            log: self.log.name(),
            first: wire::number(first),
            second: wire::number(row.size),
            proof: format_path(&path),
            path: path.iter().map(|hash| hash.0.to_vec()).collect(),
            checkpoint: row.note,
        })
    }

    async fn signed_at(&self, size: u64) -> Result<CheckpointRow, Refusal> {
        let unknown = || {
            Refusal::new(Reason::CheckpointUnknown)
                .saying("no checkpoint was signed at this size; 0 asks for the newest")
        };
        self.log.checkpoint(size).await?.ok_or_else(unknown)
    }
}
