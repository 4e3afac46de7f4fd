"""Why the model answered so: explanations of fields, and labelled images of a model's training."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "explanations",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("field_id", sa.String(length=26), nullable=False),
        sa.Column("model_id", sa.String(length=26), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("map_sha256", sa.String(length=64), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("changed", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["field_id"], ["fields.id"], name=op.f("fk_explanations_field_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_explanations_model_id")),
        sa.ForeignKeyConstraint(
            ["map_sha256"], ["blobs.sha256"], name=op.f("fk_explanations_map_sha256")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_explanations")),
        sa.UniqueConstraint("field_id", "model_id", name=op.f("uq_explanations_field_id_model_id")),
    )
    op.create_index(
        op.f("ix_explanations_state_created"), "explanations", ["state", "created"], unique=False
    )
    op.create_index(
        op.f("ix_explanations_map_sha256"), "explanations", ["map_sha256"], unique=False
    )
    op.create_table(
        "references",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("model_id", sa.String(length=26), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("shown", sa.Boolean(), nullable=False),
        sa.Column("features", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_references_model_id")),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_references_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_references")),
        sa.UniqueConstraint("model_id", "sha256", name=op.f("uq_references_model_id_sha256")),
    )
    op.create_index(op.f("ix_references_sha256"), "references", ["sha256"], unique=False)
