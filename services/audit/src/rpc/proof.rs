//! `ProofService`: checkpoints and proofs, for anybody.

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_log::proof::format_path;
use sammati_server::{authz, error};
use tonic::{Request, Response, Status};

use super::Rpc;
use crate::cosigned::unknown;
use crate::log::cosigned;
use crate::rows::CheckpointRow;
use crate::wire::{self, Asked, Leaves};

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

    async fn add_cosignature(
        &self,
        request: Request<audit::AddCosignatureRequest>,
    ) -> Result<Response<audit::Checkpoint>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.cosign(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_tile(&self, request: Request<audit::GetTileRequest>) -> Result<Response<audit::Tile>, Status> {
        self.tile(request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Rpc {
    async fn checkpoint(&self, request: audit::GetCheckpointRequest) -> Result<audit::Checkpoint, Refusal> {
        let (size, at_least) = wire::which_checkpoint(&request)?;
        self.is_ours(&request.log)?;
        let row = self.log.checkpoint_with(size, at_least).await?;
        Ok(wire::checkpoint(&self.log.name(), row))
    }

    async fn inclusion(&self, request: audit::GetProofRequest) -> Result<audit::InclusionProof, Refusal> {
        let asked = wire::which_leaves(&request)?;
        if !request.log.is_empty() {
            self.is_ours(&request.log)?;
        }
        let indexes = match asked.which {
            Leaves::Index(index) => vec![index],
            Leaves::Events(ids, wait) => {
                let found = self.log.leaves_of(&ids, wait, |_| true).await?;
                let indexes = found.into_iter().map(|row| row.map(|row| row.index));
                indexes.collect::<Option<Vec<_>>>().ok_or(Reason::NotAvailable)?
            }
        };
        let last = indexes.iter().max().copied().unwrap_or_default();
        let row = if asked.tree_size == 0 {
            self.log.covering(last.saturating_add(1)).await?
        } else {
            self.signed_at(asked.tree_size).await?
        };
        let row = self.log.noted(row).await?;
        let proved = self.log.prove_inclusion(&indexes, &row).await?;
        Ok(wire::inclusion(self.log.name(), row.size, proved, request.event_ids))
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
        let row = self.log.noted(row).await?;
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

    async fn cosign(
        &self,
        caller: &Caller,
        request: audit::AddCosignatureRequest,
    ) -> Result<audit::Checkpoint, Refusal> {
        let size = wire::cosigned_size(&request)?;
        self.is_ours(&request.log)?;
        let log = self.log.name();
        let told = cosigned(caller, &wire::checkpoint_name(&log, size));
        let row = self.log.add_cosignature(size, &request.cosignature, told).await?;
        Ok(wire::checkpoint(&log, row))
    }

    async fn tile(&self, request: audit::GetTileRequest) -> Result<audit::Tile, Refusal> {
        let asked = wire::which_tile(&request)?;
        self.is_ours(&request.log)?;
        let (path, content) = match asked {
            Asked::Hashes(id) => (id.path(), self.log.tile(id).await?),
            Asked::Leaves(id) => (id.path(), self.log.entries(id).await?),
        };
        Ok(audit::Tile {
            log: self.log.name(),
            path,
            content,
        })
    }

    pub(super) async fn signed_at(&self, size: u64) -> Result<CheckpointRow, Refusal> {
        self.log.checkpoint(size).await?.ok_or_else(unknown)
    }
}
